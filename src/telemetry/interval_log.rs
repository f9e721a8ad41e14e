//! The file of `--histogram-out`: a standard HdrHistogram interval log.
//!
//! One line per stage and interval, the stage's name as its tag. Interval times are seconds since
//! the log's `BaseTime`; the readable maximum is milliseconds; the histograms themselves hold
//! microseconds. `HistogramLogReader` of every HdrHistogram library reads it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriter, IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};

use super::stages::{Stage, StageHistograms};

/// The column `Interval_Max` is in milliseconds, as is the custom; histograms are in microseconds.
const MAX_VALUE_DIVISOR: f64 = 1000.0;
/// The column names that other writers put before the first interval.
const LEGEND: &[u8] =
    b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";

/// Writes an interval log. Each interval reaches the file in one write before the call returns.
///
/// Owns a descriptor: belongs to a thread on the process's own table, not to a loop.
pub struct IntervalLog {
    file: File,
    path: PathBuf,
    serializer: V2DeflateSerializer,
    /// What is to be written; kept for its capacity.
    buffer: Vec<u8>,
}

impl IntervalLog {
    /// Begins a log in `path`, in place of what is there, with `base` as its start and base time.
    ///
    /// # Errors
    /// What creating or writing the file says, with the file's path.
    pub fn create(path: &Path, base: SystemTime) -> io::Result<Self> {
        let file = File::create(path).map_err(|e| at(path, "cannot create", &e))?;
        let mut log = Self {
            file,
            path: path.to_owned(),
            serializer: V2DeflateSerializer::new(),
            buffer: Vec::new(),
        };
        log.write_header(base).map_err(|e| at(path, "cannot write", &e))?;
        Ok(log)
    }

    /// Writes one interval that began `since_base` after the base time and lasted `length`.
    ///
    /// Every stage gets a line, also one of which nothing was recorded.
    ///
    /// # Errors
    /// What writing the file says, with the file's path.
    pub fn write(
        &mut self,
        since_base: Duration,
        length: Duration,
        stages: &StageHistograms,
    ) -> io::Result<()> {
        self.write_interval(since_base, length, stages)
            .map_err(|e| at(&self.path, "cannot write", &e))
    }

    fn write_header(&mut self, base: SystemTime) -> io::Result<()> {
        self.buffer.clear();
        builder()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment("[Logged by tidegate. Histograms in microseconds, Interval_Max in ms]")
            .with_start_time(base)
            .with_base_time(base)
            .begin_log_with(&mut self.buffer, &mut self.serializer)?;
        self.buffer.extend_from_slice(LEGEND);
        self.file.write_all(&self.buffer)
    }

    fn write_interval(
        &mut self,
        since_base: Duration,
        length: Duration,
        stages: &StageHistograms,
    ) -> io::Result<()> {
        // The library's writer borrows its target for the log's whole life; a new one per interval
        // begins with a header again, which is left out of what goes to the file.
        let header = header_len(&mut self.buffer, &mut self.serializer)?;
        let mut writer = builder().begin_log_with(&mut self.buffer, &mut self.serializer)?;
        for stage in Stage::ALL {
            write_stage(&mut writer, stage, since_base, length, stages)?;
        }
        self.file.write_all(&self.buffer[header..])
    }
}

fn builder() -> IntervalLogWriterBuilder {
    let mut builder = IntervalLogWriterBuilder::new();
    builder.with_max_value_divisor(MAX_VALUE_DIVISOR);
    builder
}

/// Length of what a writer begins with. Leaves `buffer` empty.
fn header_len(buffer: &mut Vec<u8>, serializer: &mut V2DeflateSerializer) -> io::Result<usize> {
    buffer.clear();
    builder().begin_log_with(buffer, serializer)?;
    let len = buffer.len();
    buffer.clear();
    Ok(len)
}

fn write_stage(
    writer: &mut IntervalLogWriter<'_, '_, Vec<u8>, V2DeflateSerializer>,
    stage: Stage,
    since_base: Duration,
    length: Duration,
    stages: &StageHistograms,
) -> io::Result<()> {
    let tag = Tag::new(stage.name());
    writer.write_histogram(stages.get(stage), since_base, length, tag).map_err(|e| match e {
        IntervalLogWriterError::IoError(e) => e,
        IntervalLogWriterError::SerializeError(e) => io::Error::other(e),
    })
}

fn at(path: &Path, what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{
        IntervalLogHistogram, IntervalLogIterator, LogEntry,
    };

    use super::*;
    use crate::telemetry::stages::{StageCollector, StageRecorder};

    const BASE_S: u64 = 1_700_000_000;

    fn decoded(entry: &IntervalLogHistogram<'_>) -> Histogram<u64> {
        let bytes = base64_decode(entry.encoded_histogram());
        Deserializer::new().deserialize(&mut &bytes[..]).unwrap()
    }

    fn base64_decode(text: &str) -> Vec<u8> {
        let sextet = |c: u8| match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("not base64: {text}"),
        };
        let mut bytes = Vec::new();
        let (mut bits, mut len) = (0u32, 0);
        for c in text.trim_end_matches('=').bytes() {
            bits = bits << 6 | u32::from(sextet(c));
            len += 6;
            if len >= 8 {
                len -= 8;
                bytes.push((bits >> len) as u8);
            }
        }
        bytes
    }

    /// Two intervals of 10 s: 100 waits of 250 µs, then one of 2 s.
    fn write_two_intervals(path: &Path) {
        let base = SystemTime::UNIX_EPOCH + Duration::from_secs(BASE_S);
        let mut log = IntervalLog::create(path, base).unwrap();
        let mut recorder = StageRecorder::new();
        let mut collector = StageCollector::new(vec![recorder.cell()]);
        let ten_s = Duration::from_secs(10);
        for (n, (elapsed, count)) in
            [(Duration::from_micros(250), 100), (Duration::from_secs(2), 1)].into_iter().enumerate()
        {
            recorder.record(Stage::ReadToRouted, elapsed, count);
            recorder.publish_before_sleep();
            collector.collect();
            log.write(ten_s * n as u32, ten_s, collector.interval()).unwrap();
            collector.end_interval();
            let intervals = fs::read_to_string(path).unwrap().matches("Tag=").count();
            assert_eq!(intervals, Stage::ALL.len() * (n + 1), "not in the file at once");
        }
    }

    #[test]
    fn the_library_reads_back_what_was_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stages.hlog");
        write_two_intervals(&path);
        let text = fs::read(&path).unwrap();
        let entries: Vec<_> = IntervalLogIterator::new(&text).map(Result::unwrap).collect();

        let base = Duration::from_secs(BASE_S);
        assert_eq!(entries[..2], [LogEntry::StartTime(base), LogEntry::BaseTime(base)]);
        let intervals: Vec<_> = entries[2..]
            .iter()
            .map(|entry| match entry {
                LogEntry::Interval(interval) => interval,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(intervals.len(), 2 * Stage::ALL.len());
        for (i, interval) in intervals.iter().enumerate() {
            let (stage, n) = (Stage::ALL[i % 5], i as u64 / 5);
            assert_eq!(interval.tag().unwrap().as_str(), stage.name());
            assert_eq!(interval.start_timestamp(), Duration::from_secs(10 * n));
            assert_eq!(interval.duration(), Duration::from_secs(10));
            if stage != Stage::ReadToRouted {
                assert!(decoded(interval).is_empty());
            }
        }
        let (first, second) = (decoded(intervals[1]), decoded(intervals[6]));
        assert_eq!((first.len(), first.count_at(250)), (100, 100));
        assert_eq!((second.len(), second.count_at(2_000_000)), (1, 1));
        // Milliseconds, within the histogram's 1 %.
        assert!((0.250..0.2525).contains(&intervals[1].max()), "{}", intervals[1].max());
        assert!((2000.0..2020.0).contains(&intervals[6].max()), "{}", intervals[6].max());
    }

    #[test]
    fn the_header_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stages.hlog");
        fs::write(&path, "a former log").unwrap();
        write_two_intervals(&path);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#[Histogram log format version 1.3]\n"));
        for once in ["#[StartTime: ", "#[BaseTime: ", "#[MaxValueDivisor: ", "\"StartTimestamp\","]
        {
            assert_eq!(text.matches(once).count(), 1, "{once}");
        }
    }

    #[test]
    fn errors_name_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing").join("stages.hlog");
        let error = IntervalLog::create(&path, SystemTime::now()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}
