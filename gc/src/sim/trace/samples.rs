//! A few requests in every format, for the tests.

use std::io;

use super::{Format, Request, Requests};

pub(super) const VSCSI_1: &[u8] = b"\
    \x01\0\0\0\0\x10\0\0\x01\0\0\0\x2a\0\0\x01\xef\x03\0\0\0\0\0\0\x06\x05\x04\x03\x02\x01\0\0\
    \x02\0\0\0\0\x02\0\0\x01\0\0\0\x28\0\0\x01\xef\x03\0\0\0\0\0\0\x07\x05\x04\x03\x02\x01\0\0";
pub(super) const VSCSI_2: &[u8] = b"\
    \x2a\0\0\x02\x01\0\0\0\0\x10\0\0\x01\0\0\0\xef\x03\0\0\0\0\0\0\x06\x05\x04\x03\x02\x01\0\0\x09\0\0\0\0\0\0\0\
    \x28\0\0\x02\x02\0\0\0\0\x02\0\0\x01\0\0\0\xef\x03\0\0\0\0\0\0\x07\x05\x04\x03\x02\x01\0\0\x09\0\0\0\0\0\0\0";
pub(super) const TENCENT: &[u8] = b"1538323200,12910952,8,1,1063\n1538323201,12910952,8,0,1283\n";
pub(super) const REPLAYER: &[u8] =
    b"0.500,120,1,4096,4923392,0.091,4096\n147000.000,2277,0,69632,2809856,147005.484,69632\n";
pub(super) const ALIBABA: &[u8] = b"419,W,8792731648,16384,1577808144360767\n725,R,8792731648,16384,1577808144360800\n";
pub(super) const MSR: &[u8] = b"128166372003061629,hm,1,Read,383496192,32768,413\r\n\
    128166372013648403,usr,0,Write,383496192,32768,1331\r\n";
pub(super) const FIO_2: &[u8] = b"fio version 2 iolog\n/dev/a add\n/dev/a open\n\
    /dev/a write 8192 16384\n/dev/a wait 500 0\n/dev/b read 0 512\n/dev/a sync 0 0\n/dev/a trim 8192 16384\n/dev/a close\n";
pub(super) const FIO_3: &[u8] = b"fio version 3 iolog\n2 /dev/a add\n872 /dev/a open\n\
    878 /dev/a write 8192 16384\n888 /dev/b read 0 512\n890 /dev/a datasync 0 0\n891 /dev/a trim 8192 16384\n900 /dev/a close\n";
pub(super) const BLKPARSE: &[u8] = b"  8,0    3        1     0.000001000   697  Q   W 223490 + 8 [kjournald]
  8,0    3        2     0.000001829   697  G   W 223490 + 8 [kjournald]
  8,0    3        3     0.000002000   697  P   N [kjournald]
  8,0    3        4     0.000002500   697  Q FWS [kjournald]
  8,0    3        0     0.000002600     0  m   N cfq697 insert_request
259,1    0        9     2.000001000   700  Q  DS 223490 + 8 [fstrim]
  8,0    3        5     2.000002000   701  Q  RM 223490 + 8 [ls]
  8,0    3        6     2.000003000   702  Q   R 36 (12 00 00 00 24 00) [udevd]
  8,0    3        7     2.000004000     0  C   W 223490 + 8 [0]
CPU3 (sda):
 Reads Queued:           1,        4KiB\t Writes Queued:           1,        4KiB
Total (sda):
 Throughput (R/W): 2KiB/s / 2KiB/s
";
/// A header, a write, a move, a loss and a discard.
pub(super) const GLEANFS: &[u8] = b"\
    GLEANTEL\x01\0\0\0@\0\0\0\0\x01\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \x01\x01\x02\x06\xff\xff\0\0\x09\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0d\0\0\0\0\0\0\0\x03\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\
    \x02\0\x02\x06\xff\xff\0\0\x09\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0d\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x03\0\0\0\x04\0\0\0\
    \x05\0\x02\x06\xff\xff\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \x03\0\x02\x06\xff\xff\0\0\x09\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0d\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x03\0\0\0\x04\0\0\0";

pub(super) const ALL: [(Format, &[u8]); 10] = [
    (Format::Vscsi, VSCSI_1),
    (Format::Vscsi, VSCSI_2),
    (Format::Tencent, TENCENT),
    (Format::Replayer, REPLAYER),
    (Format::Alibaba, ALIBABA),
    (Format::Msr, MSR),
    (Format::Fio, FIO_2),
    (Format::Fio, FIO_3),
    (Format::Blkparse, BLKPARSE),
    (Format::Gleanfs, GLEANFS),
];

/// All requests of `trace`, or the line that says what is wrong with it.
pub(super) fn read(trace: &[u8], format: Option<Format>) -> Result<Vec<Request>, String> {
    let requests = Requests::new("t".to_owned(), io::Cursor::new(trace.to_vec()), format);
    requests.and_then(|requests| requests.collect()).map_err(|error| error.to_string())
}

pub(super) fn requests(trace: &[u8]) -> Vec<Request> {
    read(trace, None).unwrap_or_else(|error| panic!("{error}"))
}
