//! A network of machines inside this one, which tests cut and heal.
//!
//! A machine is a network namespace with one interface, wired to a switch in a namespace of its
//! own, to which the test itself is wired as well. A cut drops what arrives at one machine from
//! another, in that direction only; the other direction is another cut.
//!
//! Nothing is left behind, however a test ends: a namespace lives as long as the process in it
//! that waits for its standard input to end, which it does with the test, and the system takes
//! links and rules away with the namespace. The one name that all tests share is the interface of
//! the test; whoever makes it has the addresses that go with it.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

/// The addresses that are for testing networks, 198.18.0.0/15; each network takes 16 of them.
const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const N_ADDRESSES: u32 = 16;
const N_NETWORKS: u32 = (1 << 17) / N_ADDRESSES;

/// Where a process of a test runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Machine {
    /// Beside the test, on the loopback.
    Here,
    /// In the network namespace of this process, with this address.
    There { holder: u32, address: Ipv4Addr },
}

/// Machines that reach each other, as far as they are not cut.
#[derive(Debug)]
pub(crate) struct Network {
    /// Of the switch first, then of the machines.
    holders: Vec<Child>,
    machines: Vec<Machine>,
}

impl Machine {
    pub(crate) fn address(self) -> Ipv4Addr {
        match self {
            Self::Here => Ipv4Addr::LOCALHOST,
            Self::There { address, .. } => address,
        }
    }

    /// A command that runs the program there. Its process is the program's own.
    pub(crate) fn command(self, program: &str) -> Command {
        match self {
            Self::Here => Command::new(program),
            Self::There { holder, .. } => inside(holder, program),
        }
    }
}

impl Network {
    /// Makes a network of so many machines.
    ///
    /// # Panics
    ///
    /// If this process may not, or a program for it is missing: then the test has not run.
    pub(crate) fn new(n_machines: u32) -> Self {
        check_rights();
        let holders: Vec<Child> = (0..=n_machines).map(|_| hold_a_namespace()).collect();
        let switch = holders[0].id();
        let first = claim_addresses(switch);
        feed(
            inside(switch, "ip"),
            &["-batch", "-"],
            "link add switch type bridge\nlink set switch up\nlink set test master switch up\n",
        );
        let mut machines = Vec::new();
        for (n, holder) in (2..).zip(&holders[1..]) {
            let (holder, address) = (holder.id(), Ipv4Addr::from(first + n));
            let wires = format!(
                "link add port{n} type veth peer name eth0 netns {holder}\n\
                 link set port{n} master switch up\n"
            );
            feed(inside(switch, "ip"), &["-batch", "-"], &wires);
            let own = format!("addr add {address}/28 dev eth0\nlink set eth0 up\nlink set lo up\n");
            feed(inside(holder, "ip"), &["-batch", "-"], &own);
            machines.push(Machine::There { holder, address });
        }
        Self { holders, machines }
    }

    pub(crate) fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// Lets nothing more arrive at machine `to` from machine `from`.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        let from = self.machines[from].address();
        let rules = format!(
            "add table ip cuts\n\
             add chain ip cuts arriving {{ type filter hook input priority 0 ; }}\n\
             add rule ip cuts arriving ip saddr {from} drop\n"
        );
        feed(self.machines[to].command("nft"), &["-f", "-"], &rules);
    }

    /// Ends all cuts.
    pub(crate) fn heal(&self) {
        for machine in &self.machines {
            feed(machine.command("nft"), &["-f", "-"], "flush ruleset\n");
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            let _gone = holder.kill();
            let _reaped = holder.wait();
        }
    }
}

/// Cutting a network is what these tests are for: without the means for it they fail.
fn check_rights() {
    let id = Command::new("id").arg("-u").output().unwrap();
    let is_root = id.stdout.trim_ascii() == b"0";
    assert!(
        is_root,
        "tests that cut the network make network namespaces, which only root may: run them as root"
    );
    for (program, package) in [
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("ip", "iproute2"),
        ("nft", "nftables"),
    ] {
        let found = Command::new(program).arg("--version").output();
        assert!(
            found.is_ok(),
            "tests that cut the network need {program}, of the package {package}"
        );
    }
}

/// Starts a process in a network namespace of its own; it ends when this one does.
fn hold_a_namespace() -> Child {
    let mut command = Command::new("unshare");
    command.args(["--net", "cat"]);
    let mut holder = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // What comes back says that it is in the namespace by now.
    let written = holder.stdin.as_mut().unwrap().write_all(b"there?\n");
    written.unwrap();
    let mut echo = String::new();
    let mut output = BufReader::new(holder.stdout.take().unwrap());
    output.read_line(&mut echo).unwrap();
    assert_eq!(echo, "there?\n", "no network namespace could be made");
    holder
}

/// Wires the test to the switch; returns the first of the addresses that no other test has.
fn claim_addresses(switch: u32) -> u32 {
    let own = std::process::id();
    for n in (0..N_NETWORKS).map(|n| (own + n) % N_NETWORKS) {
        let (name, first) = (format!("herenow{n}"), FIRST + n * N_ADDRESSES);
        let mut ip = Command::new("ip");
        ip.args(["link", "add", &name, "type", "veth"]);
        ip.args(["peer", "name", "test", "netns", &switch.to_string()]);
        let made = ip.output().unwrap();
        if !made.status.success() {
            let error = String::from_utf8_lossy(&made.stderr);
            assert!(error.contains("File exists"), "no network: {error}");
            continue;
        }
        let address = Ipv4Addr::from(first + 1);
        let own = format!("addr add {address}/28 dev {name}\nlink set {name} up\n");
        feed(Command::new("ip"), &["-batch", "-"], &own);
        return first;
    }
    panic!("{N_NETWORKS} networks are there already");
}

/// A command that runs the program in the network namespace of a process.
fn inside(holder: u32, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args([&format!("--net=/proc/{holder}/ns/net"), program]);
    command
}

/// Runs a command with these arguments and this input; it must succeed.
fn feed(mut command: Command, arguments: &[&str], input: &str) {
    command.args(arguments).stdin(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let ended = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{input:?}: {error}");
}
