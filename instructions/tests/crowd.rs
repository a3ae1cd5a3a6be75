//! What whole servers are counted on, in small: it checks what the counts are taken of.

use instructions::{Crowd, Extras};

#[test]
fn srv_1260_a_crowd_that_is_counted_comes_in_and_has_its_lists() {
    for extras in [Extras::None, Extras::Limits, Extras::LimitsAndTokens] {
        let mut crowd = Crowd::at_the_door(extras, 21, 11);
        crowd.come();
        crowd.check_lists();
    }
}

#[test]
fn srv_1261_a_speech_that_is_counted_is_heard_by_all() {
    for extras in [Extras::None, Extras::Limits, Extras::LimitsAndTokens] {
        let mut crowd = Crowd::before_a_speech(extras, 11, 7);
        crowd.speak();
        crowd.check_speech();
    }
}
