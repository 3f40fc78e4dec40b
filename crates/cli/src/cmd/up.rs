#[derive(clap::Args)]
pub(crate) struct Up {}
#[derive(clap::Args)]
pub(crate) struct Server {}
impl Up { pub(crate) fn run(self, _: &crate::Common) -> Result<crate::exit::Code, crate::exit::CliError> { Ok(crate::exit::Code::Ok) } }
impl Server { pub(crate) fn run(self, _: &crate::Common) -> Result<crate::exit::Code, crate::exit::CliError> { Ok(crate::exit::Code::Ok) } }
