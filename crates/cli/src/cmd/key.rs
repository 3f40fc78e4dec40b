//! `assay key …`: the key that receipts are signed with.

use crate::client::Client;
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_proto::api::gate::ReceiptKey;

/// Keys of the server.
#[derive(clap::Subcommand)]
pub(crate) enum Key {
    /// Print the public key of receipts as a line for a trust file.
    #[command(after_help = "Example:\n  assay key show >trust && assay verify . master --trust trust")]
    Show,
}

impl Key {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let Self::Show = self;
        let client = Client::new(common)?;
        let key: ReceiptKey = client.get("/api/assay/v1/receipts/key")?;
        if common.json {
            ui::print_json(&key);
        } else {
            println!("{}", key.trust);
        }
        Ok(Code::Ok)
    }
}
