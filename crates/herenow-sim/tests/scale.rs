//! The scale mode at a size that every test run can afford.

use herenow_sim::{Model, Setup, measure};

fn setup(n_carried: u16) -> Setup {
    Setup {
        n_nodes: 6,
        n_presences: 2_000,
        n_shards: 8,
        n_carried,
        max_history: 65_536,
        changes_per_second: 20,
        seed: 1,
    }
}

#[test]
fn shd_505_a_cluster_at_scale_lists_exactly_who_lives() {
    for n_carried in [8, 4] {
        // `measure` compares every node's list with the oracle at the end.
        let measured = measure(&setup(n_carried), &Model::default()).expect("all lists are right");
        assert!(measured.newcomer_ms < 300.0, "{measured:?}");
        assert!(measured.join_churn_p99_ms > 0.2, "{measured:?}");
        assert!(measured.join_churn_p99_ms < 15.0, "{measured:?}");
        assert!(measured.heal_ms < 1000.0, "{measured:?}");
        assert!(measured.churn_bytes > measured.quiet_bytes, "{measured:?}");
        let unchanged_bits = 2.0 * measured.presences / 2.0;
        let requests = 64.0 * measured.shards * measured.nodes;
        let allowed = measured.heal_changes * 80.0 + unchanged_bits / 8.0 + requests;
        assert!(measured.heal_bytes < allowed, "{measured:?}");
    }
}
