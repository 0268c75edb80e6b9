//! The one translation of errors to `errno`.
//!
//! What the medium did wrong is logged here as well, because the program that asked sees only `EIO`.

use fuser::Errno;

use crate::error::Error;

/// The `errno` that tells a program of `error`.
pub(super) fn errno(error: &Error) -> Errno {
    let code = code(error);
    if code == libc::EIO {
        tracing::error!("{error}");
    }
    Errno::from_i32(code)
}

fn code(error: &Error) -> i32 {
    match error {
        Error::Device(device) if device.source.raw_os_error() == Some(libc::ENOSPC) => libc::ENOSPC,
        Error::Device(_) | Error::Damaged { .. } | Error::Decode(_) | Error::NodeMiss(_) => libc::EIO,
        Error::Refused(_) => libc::EBUSY,
        Error::Latched(_) | Error::ReadOnly => libc::EROFS,
        Error::MustWait => libc::EAGAIN,
        Error::NoSpace => libc::ENOSPC,
        Error::NotFound => libc::ENOENT,
        Error::Exists => libc::EEXIST,
        Error::NotADirectory => libc::ENOTDIR,
        Error::IsADirectory => libc::EISDIR,
        Error::NotEmpty => libc::ENOTEMPTY,
        Error::NameTooLong => libc::ENAMETOOLONG,
        Error::FileTooBig => libc::EFBIG,
        Error::TooManyLinks => libc::EMLINK,
        Error::Invalid => libc::EINVAL,
        Error::NotPermitted => libc::EPERM,
        Error::NoAttribute => libc::ENODATA,
        Error::Range => libc::ERANGE,
        Error::TooLong => libc::E2BIG,
        Error::NoSuchAddress => libc::ENXIO,
        Error::NotSupported => libc::EOPNOTSUPP,
        Error::Stale => libc::ESTALE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceError;
    use crate::types::BlockAddr;

    fn device(errno: i32) -> Error {
        let source = std::io::Error::from_raw_os_error(errno);
        Error::Device(DeviceError { op: "write", addr: BlockAddr(7), blocks: 1, source })
    }

    #[test]
    fn a_full_host_is_no_space_and_any_other_failure_of_the_device_is_an_io_error() {
        assert_eq!(code(&device(libc::ENOSPC)), libc::ENOSPC);
        assert_eq!(code(&device(libc::EROFS)), libc::EIO);
    }

    #[test]
    fn a_latched_mount_is_read_only() {
        assert_eq!(code(&Error::Latched("a flush failed".into())), libc::EROFS);
        assert_eq!(code(&Error::ReadOnly), libc::EROFS);
    }
}
