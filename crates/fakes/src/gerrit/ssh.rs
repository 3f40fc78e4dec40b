//! The SSH server: logins by key, and one task per command.

use super::commands;
use super::core::Core;
use anyhow::Context as _;
use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelReadHalf, ChannelWriteHalf, MethodKind, MethodSet};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A connection as a command sees it.
pub(crate) struct Call {
    pub(crate) core: Arc<Core>,
    pub(crate) user: String,
    pub(crate) command: String,
    /// `GIT_PROTOCOL`
    pub(crate) git_protocol: Option<String>,
    pub(crate) from: ChannelReadHalf,
    pub(crate) to: ChannelWriteHalf<Msg>,
    /// Ends the connection at once and without a word.
    pub(crate) cut: CancellationToken,
}

/// A server key made for this run.
pub(crate) fn new_key() -> anyhow::Result<russh::keys::PrivateKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the machine has no random numbers")?;
    let pair = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&seed);
    Ok(pair.into())
}

/// Accepts connections until the server ends.
pub(crate) async fn serve(core: Arc<Core>, listener: TcpListener, key: russh::keys::PrivateKey) {
    let config = Arc::new(russh::server::Config {
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key],
        inactivity_timeout: None,
        nodelay: true,
        max_auth_attempts: 50,
        ..russh::server::Config::default()
    });
    loop {
        let stream = tokio::select! {
            () = core.cancel.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        let (core, config) = (core.clone(), config.clone());
        core.tasks.clone().spawn(async move {
            if let Err(error) = connection(core, config, stream).await {
                tracing::debug!("a connection to the fake Gerrit ended: {error:#}");
            }
        });
    }
}

async fn connection(
    core: Arc<Core>,
    config: Arc<russh::server::Config>,
    stream: TcpStream,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let other_end = stream.try_clone()?;
    let cut = core.cancel.child_token();
    let session = Connection {
        core: core.clone(),
        user: None,
        channels: HashMap::new(),
        git_protocol: HashMap::new(),
        cut: cut.clone(),
    };
    let serve = async {
        let running = russh::server::run_stream(config, TcpStream::from_std(stream)?, session).await?;
        running.await
    };
    tokio::select! {
        result = serve => result?,
        () = cut.cancelled() => {}
    }
    // russh's own task sees the end of the stream.
    let _ = other_end.shutdown(std::net::Shutdown::Both);
    cut.cancel();
    core.hub.sweep();
    Ok(())
}

struct Connection {
    core: Arc<Core>,
    user: Option<String>,
    channels: HashMap<ChannelId, Channel<Msg>>,
    git_protocol: HashMap<ChannelId, String>,
    cut: CancellationToken,
}

impl Connection {
    async fn knows(&self, user: &str, key: &PublicKey) -> bool {
        if self.core.faults.refuses_logins() {
            return false;
        }
        let world = self.core.world.lock().await;
        world.accounts.get(user).is_some_and(|account| {
            self.core.any_key
                || account.keys.iter().any(|line| {
                    PublicKey::from_openssh(line).is_ok_and(|known| known.key_data() == key.key_data())
                })
        })
    }
}

impl Handler for Connection {
    type Error = anyhow::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(if self.knows(user, offer.public_key).await { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        if !self.knows(user, key.public_key).await {
            return Ok(Auth::reject());
        }
        self.user = Some(user.to_owned());
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if name == "GIT_PROTOCOL" {
            self.git_protocol.insert(channel, value.to_owned());
        }
        session.channel_success(channel)?;
        Ok(())
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_success(channel)?;
        session.data(channel, "Welcome to the fake Gerrit. There is no shell.\r\n".as_bytes().to_vec())?;
        session.exit_status_request(channel, 127)?;
        session.close(channel)?;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)?;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (Some(user), Some(open)) = (self.user.clone(), self.channels.remove(&channel)) else {
            session.channel_failure(channel)?;
            return Ok(());
        };
        session.channel_success(channel)?;
        let (from, to) = open.split();
        let call = Call {
            core: self.core.clone(),
            user,
            command: String::from_utf8_lossy(command).into_owned(),
            git_protocol: self.git_protocol.remove(&channel),
            from,
            to,
            cut: self.cut.clone(),
        };
        let cut = self.cut.clone();
        self.core.tasks.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = commands::run(call) => {}
            }
        });
        Ok(())
    }
}
