//! Watermarks. They count segments that can be written, never how full the filesystem is for its users.

use crate::meta::space::LogRoom;

/// How pressing cleaning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pressure {
    Normal,
    Emergency,
}

/// Watermarks in segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Fewer that can be opened or wait for a checkpoint: emergency.
    pub low: u32,
    /// Fewer that can be opened: an extension of the log or a checkpoint is due if it frees some.
    pub checkpoint: u32,
    /// Fewer that can be opened or are prefree: clean, and slow writers down in proportion.
    pub high: u32,
    /// Segments worth a checkpoint: what it writes against the garbage that they could have held meanwhile. Found by trying, with fio's zipf on 1 and
    /// 4 GiB, 85 % full.
    pub batch: u32,
    /// Segments worth an extension of the log, which costs two flushes and a block.
    pub extension_batch: u32,
}

impl Marks {
    pub fn new(room: &LogRoom) -> Self {
        let low = room.low_segments();
        // Narrow: every segment in it is one that the log cannot hold garbage in.
        let band = (room.segments / 128).clamp(4, 48);
        let batch = (room.segments / 64).clamp(4, 96);
        Self { low, checkpoint: low + band * 3 / 5, high: low + band, batch, extension_batch: (band / 3).max(1) }
    }

    pub fn pressure(&self, obtainable: u32) -> Pressure {
        if obtainable < self.low { Pressure::Emergency } else { Pressure::Normal }
    }

    /// How far below *high* things are: 0 at or above it, 1 at *low* or below.
    pub fn shortage(&self, obtainable: u32) -> f64 {
        let band = f64::from(self.high - self.low);
        (f64::from(self.high) - f64::from(obtainable)).clamp(0.0, band) / band
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_ordered_and_shortage_runs_from_none_to_all() {
        for segments in [40, 512, 2048, 1 << 19] {
            let marks = Marks::new(&LogRoom { segments, segment_blocks: 512 });
            assert!(marks.low < marks.checkpoint && marks.checkpoint < marks.high);
            assert_eq!(marks.shortage(marks.high), 0.0);
            assert_eq!(marks.shortage(marks.low), 1.0);
            assert_eq!(marks.shortage(0), 1.0);
            assert_eq!(marks.pressure(marks.low), Pressure::Normal);
            assert_eq!(marks.pressure(marks.low - 1), Pressure::Emergency);
        }
    }
}
