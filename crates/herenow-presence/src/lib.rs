//! Tracker and Presence: who is here, grouped, enriched and broadcast.
