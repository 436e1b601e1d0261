//! A limit of calls as systems have it: so many in a window of time, and then none until the next.

/// A limit of calls, whatever they do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget {
    pub calls: u32,
    pub window_ms: i64,
    /// Taken since the window began, and refused in all.
    pub taken: u32,
    pub refused: u32,
    pub began_ms: i64,
}

impl Budget {
    /// Whether one more call is taken now.
    pub fn takes(&mut self, now_ms: i64) -> bool {
        if now_ms - self.began_ms >= self.window_ms {
            (self.began_ms, self.taken) = (now_ms, 0);
        }
        let takes = self.taken < self.calls;
        self.taken += u32::from(takes);
        self.refused += u32::from(!takes);
        takes
    }
}
