//! Takes an input apart into the steps of a script: bytes are choices, and never run out.

/// What is left of an input. At its end every number is 0 and every piece is empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// Whether there is nothing left.
    pub(crate) fn is_at_end(self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// The next eight bytes as a number; fewer at the end.
    pub(crate) fn number(&mut self) -> u64 {
        let bytes = self.take(8);
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    /// The next piece: two bytes of length, big endian, then as many bytes, or fewer at the end.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()) << 8 | usize::from(self.byte());
        self.take(len)
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        match self.0.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                let line = &self.0[..at];
                self.0 = &self.0[at + 1..];
                line
            }
            None => std::mem::take(&mut self.0),
        }
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Writes a piece as [`Reader::piece`] reads it, for seeds.
pub(crate) fn piece(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("seeds are short");
    [&len.to_be_bytes()[..], bytes].concat()
}
