//! Variables that Kubernetes sets in every container of a namespace for each of its services.
//!
//! For a service called `herenow-nats` they begin with `HERENOW_NATS_`, as ours might.

/// The protocols of a service's ports.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// Tells whether a variable is one of those by its form: `…_SERVICE_HOST`, `…_SERVICE_PORT`,
/// `…_SERVICE_PORT_HTTP`, `…_PORT=tcp://10.1.1.1:4222`, `…_PORT_4222_TCP` and the same with
/// `_PROTO`, `_PORT` and `_ADDR` behind it.
pub(super) fn is_of_a_service(name: &str, value: &str) -> bool {
    let is_of_service = name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_");
    let is_link = name.ends_with("_PORT") && is_address(value);
    is_of_service || is_link || is_of_port(name)
}

fn is_address(value: &str) -> bool {
    let scheme = value.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| PROTOCOLS.contains(&scheme))
}

fn is_of_port(name: &str) -> bool {
    let ends = ["_PROTO", "_PORT", "_ADDR"];
    let name = ends
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(name);
    let parts = name.rsplit_once('_').and_then(|(rest, protocol)| {
        let (rest, port) = rest.rsplit_once('_')?;
        rest.ends_with("_PORT").then_some((port, protocol))
    });
    parts.is_some_and(|(port, protocol)| {
        port.parse::<u16>().is_ok() && PROTOCOLS.contains(&protocol.to_lowercase().as_str())
    })
}
