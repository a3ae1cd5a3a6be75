//! [`BrokerProcess`]: a real broker for tests, on a port of its own.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::port::reserve_port;

/// How long a broker may take to be there.
const DEADLINE: Duration = Duration::from_secs(20);

/// A broker that runs as long as this is not dropped. It ends without a word, by SIGKILL.
#[derive(Debug)]
pub struct BrokerProcess {
    program: &'static str,
    package: &'static str,
    arguments: fn(u16) -> Vec<String>,
    more: Vec<String>,
    port: u16,
    child: Option<Child>,
}

impl BrokerProcess {
    /// Returns a broker that is not started, and reserves a port for it.
    ///
    /// `arguments` are those for a port, `more` come after them. `package` is what to install if
    /// `program` is missing.
    pub fn prepare(
        program: &'static str,
        package: &'static str,
        arguments: fn(u16) -> Vec<String>,
        more: &[&str],
    ) -> Self {
        Self {
            program,
            package,
            arguments,
            more: more.iter().map(|&argument| argument.to_owned()).collect(),
            port: reserve_port(),
            child: None,
        }
    }

    /// Returns a broker that accepts connections.
    ///
    /// # Panics
    ///
    /// If `program` is missing, or does not come up in time.
    pub async fn started(
        program: &'static str,
        package: &'static str,
        arguments: fn(u16) -> Vec<String>,
        more: &[&str],
    ) -> Self {
        let mut broker = Self::prepare(program, package, arguments, more);
        broker.start().await;
        broker
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the broker, again or for the first time, on its port.
    ///
    /// # Panics
    ///
    /// If it does not come up in time.
    pub async fn start(&mut self) {
        assert!(self.try_start().await, "{} ended at once", self.program);
    }

    /// Ends the broker by SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
        }
    }

    /// Returns whether it is there in time, and not ended by itself.
    async fn try_start(&mut self) -> bool {
        self.kill();
        let mut child = self.spawn();
        let port = self.port;
        let coming_up = timeout(DEADLINE, async {
            loop {
                if child.try_wait().expect("our own child").is_some() {
                    return false;
                }
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    return true;
                }
                sleep(Duration::from_millis(10)).await;
            }
        });
        let is_up = coming_up.await;
        self.child = Some(child);
        is_up.unwrap_or_else(|_| panic!("{} is not there in {DEADLINE:?}", self.program))
    }

    fn spawn(&self) -> Child {
        // Servers live in a folder that is not on every user's path.
        let in_sbin = Path::new("/usr/sbin").join(self.program);
        let program = if in_sbin.exists() {
            in_sbin.as_path()
        } else {
            Path::new(self.program)
        };
        Command::new(program)
            .args((self.arguments)(self.port))
            .args(&self.more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                let (program, package) = (self.program, self.package);
                panic!("cannot run {program} ({error}); on Debian: apt-get install {package}")
            })
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
