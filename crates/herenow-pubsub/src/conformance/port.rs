//! [`reserve_port`]: ports that programs of a test can be told to listen on.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::process;

use parking_lot::Mutex;

/// Below those that the system gives to whoever asks for any port, or connects to somewhere.
const PORTS: Range<u16> = 10_000..32_000;
/// From one process to the next, so that neighbours do not try the same ports.
const STRIDE: u32 = 101;

static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// Returns a TCP port of 127.0.0.1 that nobody listens on, and that no other caller on this machine
/// is given before this process ends, however often who was told it ends and listens again.
///
/// To bind port 0, look, and let go is not enough: the system may give the same port to the next
/// who asks, or to a connection. So a port is taken by its namesake of UDP, which no test uses and
/// which the system gives back when the process ends.
///
/// # Panics
///
/// If no port of 10,000 to 31,999 is free.
pub fn reserve_port() -> u16 {
    let mut reserved = RESERVED.lock();
    let n_ports = u32::from(PORTS.end - PORTS.start);
    let first = process::id().wrapping_mul(STRIDE) % n_ports;
    let ports = (0..n_ports).map(|n| (first + n) % n_ports);
    for offset in ports {
        let port = PORTS.start + u16::try_from(offset).expect("less than the number of ports");
        if let Ok(reservation) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        {
            reserved.push(reservation);
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pub_130_a_reserved_port_is_nobody_elses() {
        let ports = [(); 3].map(|()| reserve_port());
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
        for port in ports {
            let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
            assert!(taken.is_err(), "another process could take {port}");
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("its owner can listen");
        }
    }
}
