//! Whether bitcoind's ZMQ is silent, told from what comes. Pure.
//!
//! bitcoind publishes each new block and its transactions. So after a block that polling found, a
//! poll's time without a notice means that the endpoint is wrong, or that nobody publishes there.

/// What is expected of one endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ear {
    /// A notice came since the last block.
    heard: bool,
    /// A block came without a notice so far.
    owed: bool,
    /// It was found to be silent.
    silent: bool,
}

impl Ear {
    /// A notice came. True if that ends a silence.
    pub fn heard(&mut self) -> bool {
        (self.heard, self.owed) = (true, false);
        std::mem::take(&mut self.silent)
    }

    /// A new block is there.
    pub fn block(&mut self) {
        self.owed = !std::mem::take(&mut self.heard);
    }

    /// A poll's time went by since the last block. True if a silence begins.
    pub fn waited(&mut self) -> bool {
        self.heard = false;
        let begins = self.owed && !self.silent;
        self.silent |= self.owed;
        begins
    }

    /// bitcoind went away: nothing is expected of blocks that come when it is back.
    pub fn forget(&mut self) {
        self.owed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_with_notices_before_or_after_them_are_no_silence() {
        let mut ear = Ear::default();
        for _ in 0..3 {
            assert!(!ear.heard());
            ear.block();
            assert!(!ear.waited());
            ear.block();
            assert!(!ear.heard());
            assert!(!ear.waited());
        }
    }

    #[test]
    fn a_block_without_notice_is_a_silence_once_until_the_next_notice() {
        let mut ear = Ear::default();
        assert!(!ear.waited(), "without a block nothing is expected");
        ear.block();
        assert!(ear.waited());
        ear.block();
        assert!(!ear.waited(), "said already");
        assert!(ear.heard());
        assert!(!ear.heard());
        ear.block();
        ear.block();
        ear.forget();
        assert!(!ear.waited());
    }
}
