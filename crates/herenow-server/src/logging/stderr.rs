//! [`Stderr`]: lines for stderr, out of a process that does not wait for whoever reads it.
//!
//! A pipe takes 64 KiB more than is read out of it. Were it written to by whoever has something to
//! say, a reader that stalls would stop them all, one after the other, and the signals with them.
//! So one thread writes and nothing else, and what it has no room for is dropped and counted.
//!
//! The crate `tracing-appender` has such a thread, too, but it bounds lines and not bytes, and when
//! it cannot empty its queue at the end of the process it prints that, to a stream that may be the
//! one that stalls.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Bytes that wait while others are being written, about 4,000 lines; what is over it is dropped.
const MAX_BYTES: usize = 1 << 20;
/// When one that does not block, as some who start us leave it, is asked again.
const PAUSE: Duration = Duration::from_millis(10);

/// Lines on their way. Cloning shares them.
#[derive(Debug, Clone)]
pub(super) struct Stderr(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Batch,
    is_writing: bool,
    n_dropped: u64,
    /// Of those, the ones that the log has not been told of.
    n_untold: u64,
}

/// Lines as they are written, at once.
#[derive(Debug, Default)]
struct Batch {
    text: Vec<u8>,
    n_lines: u64,
}

impl Stderr {
    /// Begins to write lines to `out`, on a thread of its own.
    pub(super) fn written_to(out: impl Write + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let writer = shared.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.write_to(out))
            .expect("a process that begins can start a thread");
        Self(shared)
    }

    /// Has a line written, with the line break that it ends in. Never waits.
    pub(super) fn add(&self, line: &[u8]) {
        let mut state = self.0.state.lock();
        if state.waiting.text.len() + line.len() > MAX_BYTES {
            state.drop_lines(1);
            return;
        }
        state.waiting.text.extend_from_slice(line);
        state.waiting.n_lines += 1;
        self.0.changed.notify_all();
    }

    /// Waits until all is written that was added before, for `timeout` at most.
    pub(super) fn flush(&self, timeout: Duration) {
        let until = Instant::now() + timeout;
        let mut state = self.0.state.lock();
        while state.is_writing || state.waiting.n_lines > 0 {
            if self.0.changed.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }

    /// Returns how many lines were not written so far.
    pub(super) fn n_dropped(&self) -> u64 {
        self.0.state.lock().n_dropped
    }
}

/// Each write is a line.
impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl State {
    fn drop_lines(&mut self, n: u64) {
        self.n_dropped += n;
        self.n_untold += n;
    }
}

impl Shared {
    /// Writes for as long as the process lives.
    fn write_to(&self, mut out: impl Write) {
        loop {
            let batch = self.next();
            let is_written = write(&mut out, &batch.text).is_ok();
            self.on_end(&batch, is_written);
        }
    }

    fn next(&self) -> Batch {
        let mut state = self.state.lock();
        while state.waiting.n_lines == 0 {
            self.changed.wait(&mut state);
        }
        state.is_writing = true;
        std::mem::take(&mut state.waiting)
    }

    fn on_end(&self, batch: &Batch, is_written: bool) {
        let mut state = self.state.lock();
        if is_written {
            // To be told of is a line, too, so it is done only when there is somebody who reads.
            let n_lines = std::mem::take(&mut state.n_untold);
            drop(state);
            if n_lines > 0 {
                tracing::warn!(
                    n_lines,
                    "lines of the log dropped: stderr did not take them"
                );
            }
            state = self.state.lock();
        } else {
            state.drop_lines(batch.n_lines);
        }
        state.is_writing = false;
        self.changed.notify_all();
    }
}

/// Writes it all, also where that would block.
fn write(out: &mut impl Write, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match out.write(text) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n_bytes) => text = &text[n_bytes..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A reader of lines that takes what it is asked for and no more.
    struct Reader(Receiver<Result<String, ErrorKind>>);

    /// What the reader reads out of; the answer to a write is what is next in `answers`.
    struct Pipe {
        read: SyncSender<Result<String, ErrorKind>>,
        answers: Receiver<Result<(), ErrorKind>>,
    }

    impl Write for Pipe {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(text.to_vec()).unwrap();
            let n_bytes = text.len();
            match self.answers.recv().unwrap_or(Ok(())) {
                Ok(()) => self.read.send(Ok(text)).unwrap(),
                Err(kind) => {
                    self.read.send(Err(kind)).unwrap();
                    return Err(kind.into());
                }
            }
            Ok(n_bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe() -> (Stderr, SyncSender<Result<(), ErrorKind>>, Reader) {
        let (read, lines) = sync_channel(1_000);
        let (answer, answers) = sync_channel(1_000);
        let stderr = Stderr::written_to(Pipe { read, answers });
        (stderr, answer, Reader(lines))
    }

    impl Reader {
        fn read(&self) -> Result<String, ErrorKind> {
            self.0.recv_timeout(PATIENCE).unwrap()
        }
    }

    /// Waits until the thread has begun to write what was added.
    fn begun(stderr: &Stderr) {
        let until = Instant::now() + PATIENCE;
        while stderr.0.state.lock().waiting.n_lines > 0 {
            assert!(Instant::now() < until, "nothing is written");
            thread::yield_now();
        }
    }

    #[test]
    fn srv_1780_lines_over_what_waits_are_dropped_and_counted_and_nobody_waits() {
        let (stderr, answer, reader) = pipe();
        stderr.add(b"first\n");
        begun(&stderr);
        let long = [b"x".repeat(MAX_BYTES / 2 - 1), b"\n".to_vec()].concat();
        for _ in 0..5 {
            stderr.add(&long);
        }
        assert_eq!(stderr.n_dropped(), 3);
        stderr.flush(Duration::from_millis(1));
        answer.send(Ok(())).unwrap();
        assert_eq!(reader.read().unwrap(), "first\n");
        answer.send(Ok(())).unwrap();
        assert_eq!(reader.read().unwrap().len(), MAX_BYTES);
        // There is room again, and what ends waits for it.
        stderr.add(b"last\n");
        answer.send(Ok(())).unwrap();
        stderr.flush(PATIENCE);
        assert_eq!(reader.0.try_recv().unwrap().unwrap(), "last\n");
        assert_eq!(stderr.n_dropped(), 3);
    }

    #[test]
    fn srv_1780_a_reader_that_is_gone_loses_lines_and_one_that_does_not_block_none() {
        let (stderr, answer, reader) = pipe();
        answer.send(Err(ErrorKind::BrokenPipe)).unwrap();
        stderr.add(b"lost\n");
        assert_eq!(reader.read(), Err(ErrorKind::BrokenPipe));
        stderr.flush(PATIENCE);
        assert_eq!(stderr.n_dropped(), 1);
        answer.send(Err(ErrorKind::WouldBlock)).unwrap();
        answer.send(Ok(())).unwrap();
        stderr.add(b"later\n");
        assert_eq!(reader.read(), Err(ErrorKind::WouldBlock));
        assert_eq!(reader.read().unwrap(), "later\n");
        stderr.flush(PATIENCE);
        assert_eq!(stderr.n_dropped(), 1);
    }
}
