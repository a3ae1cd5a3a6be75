//! [`Target`]: what is fed with bytes, where it starts from, and what all of them must hold.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::memory;

/// Time that one input may take. Generous: the machine may be busy, and the build not optimized.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Held while an input is checked: what others allocate meanwhile would count as its memory.
static TURN: Mutex<()> = Mutex::new(());

/// One decoder, or the live thing behind one.
pub struct Target {
    /// Its name: of its corpus's folder, and of the target on the command line.
    pub name: &'static str,
    /// What its input is, in one line.
    pub input: &'static str,
    /// The longest input in bytes that is worth trying.
    pub max_len: usize,
    /// Bytes that it may allocate, whatever the input is.
    pub(crate) base_bytes: usize,
    /// Bytes that it may allocate for each byte of the input.
    pub(crate) bytes_per_byte: usize,
    /// Inputs to start from, made by what writes them in earnest.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    pub(crate) run: fn(&[u8]),
}

/// A promise that an input broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was broken.
    pub what: String,
}

impl Target {
    /// Returns the inputs to start from, besides the kept ones.
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        (self.seeds)()
    }

    /// Feeds it one input.
    ///
    /// # Errors
    ///
    /// [`Finding`] if it panicked, or took more memory or time than it may.
    pub fn check(&self, input: &[u8]) -> Result<(), Finding> {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        let mut outcome = Ok(());
        let peak = memory::peak_of(|| {
            outcome = catch_unwind(AssertUnwindSafe(|| (self.run)(input)));
        });
        if let Err(panic) = outcome {
            return Err(Finding::new(format!("panicked: {}", text_of(&*panic))));
        }
        let may = self.base_bytes + self.bytes_per_byte * input.len();
        if peak > may {
            let len = input.len();
            return Err(Finding::new(format!(
                "{len} bytes made it take {peak} bytes of memory, it may take {may}"
            )));
        }
        let took = began.elapsed();
        if took > MAX_TIME {
            return Err(Finding::new(format!(
                "took {took:?}, it may take {MAX_TIME:?}"
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Finding {
    fn new(what: String) -> Self {
        Self { what }
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("with something that is no text")
}
