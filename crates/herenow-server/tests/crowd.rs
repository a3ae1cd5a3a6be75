//! The crowds of `examples/crowd`, small: they check what they measure, and panic if it is wrong.

#[path = "../examples/crowd/main.rs"]
mod crowd;

fn run(mode: &str, n: usize) {
    let ran = crowd::run(mode, Some(n), Some(2));
    ran.expect("a crowd of that size can be had");
}

#[test]
fn srv_1100_a_big_room_tells_its_counts_and_lists_exactly_while_people_come_and_go() {
    run("room", 200);
}

#[test]
fn srv_1101_a_town_lists_its_rooms_exactly_and_answers_heartbeats_while_people_come_and_go() {
    run("town", 200);
}

#[test]
fn srv_1102_readers_who_stop_are_closed_at_the_bound_and_the_others_get_every_broadcast() {
    run("slow", 60);
}

#[test]
fn srv_1103_a_crowd_comes_back_after_a_crash_with_tokens_and_every_list_is_whole() {
    run("storm", 400);
}

#[test]
fn srv_1105_a_crowd_comes_back_after_a_crash_over_tcp_and_every_list_is_whole() {
    run("tcp", 400);
}

#[test]
fn srv_1106_everybody_joins_one_room_at_once_over_tcp_and_every_list_is_whole() {
    run("rush", 150);
}

#[test]
fn srv_1263_with_tokens_and_limits_a_crowd_sees_and_hears_what_it_does_without() {
    run("cost", 100);
}

#[test]
fn srv_1264_what_is_said_at_a_pace_reaches_everybody_and_is_compared_with_bare_writes() {
    run("pace", 50);
}
