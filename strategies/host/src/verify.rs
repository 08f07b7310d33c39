//! Checks on a candidate file's bytes, before any of them can run.
//!
//! Why in memory: a truncated library is not an error of `dlopen` but a SIGBUS inside it, and the operator's file may change between
//! check and use. So it is read once, and all later stages use these bytes.

use std::fs::{Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use object::elf::{ET_DYN, FileHeader64, SHT_NOBITS};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, Object, ObjectSymbol};

/// A larger file is not a strategy.
const SIZE_MAX_BYTES: u64 = 64 << 20;

/// `open` of a named pipe would wait for a writer; with this flag it returns, and the check for a regular file refuses it
/// (fcntl.h; the same on x86-64 and aarch64 Linux).
const O_NONBLOCK: i32 = 0o4000;

/// Opens and reads `path` whole; the metadata is that of the opened file, not of the path.
pub(crate) fn read(path: &Path) -> Result<(Vec<u8>, Metadata), String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .map_err(|error| format!("cannot be opened: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("cannot be examined: {error}"))?;
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    if metadata.len() > SIZE_MAX_BYTES {
        return Err(format!("has {} bytes; a plugin has at most {SIZE_MAX_BYTES}", metadata.len()));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(SIZE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    Ok((bytes, metadata))
}

/// Owner root or us; not writable by everybody. `Ok(Some(_))` is a warning.
pub(crate) fn permissions(path: &Path, metadata: &Metadata) -> Result<Option<String>, String> {
    let ours = std::fs::metadata("/proc/self").map(|me| me.uid()).unwrap_or(u32::MAX);
    if metadata.uid() != 0 && metadata.uid() != ours {
        return Err(format!("belongs to user {}: it must belong to root or to the user that runs lb", metadata.uid()));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err("is writable by everybody: run `chmod o-w` on it".into());
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(directory_metadata) = std::fs::metadata(directory)
        && directory_metadata.mode() & 0o002 != 0
        && directory_metadata.mode() & 0o1000 == 0
    {
        return Err(format!("lies in {}, which is writable by everybody: run `chmod o-w` on it", directory.display()));
    }
    Ok((metadata.mode() & 0o020 != 0).then(|| "is writable by its group: `chmod g-w` is safer".into()))
}

/// A shared object for this machine whose every segment and section lies inside the file, with our entry symbol defined.
pub(crate) fn elf(bytes: &[u8], symbol: &str) -> Result<(), String> {
    if !bytes.starts_with(b"\x7fELF") {
        return Err("is not a shared library (no ELF header): name a lib<strategy>.so built for this machine".into());
    }
    let cut = |what: &str| format!("is damaged or cut short ({what}): copy or build it again");
    let header = FileHeader64::<Endianness>::parse(bytes).map_err(|_| cut("its ELF header does not parse"))?;
    let endian = header.endian().map_err(|_| cut("its byte order is unknown"))?;
    if header.e_type(endian) != ET_DYN {
        return Err("is an ELF file, but not a shared library: build it with crate-type = [\"cdylib\"]".into());
    }
    if header.e_machine(endian) != MACHINE {
        return Err(format!(
            "is built for another machine (ELF machine {}, here {MACHINE})",
            header.e_machine(endian).0
        ));
    }
    let inside = |offset: u64, size: u64| offset.checked_add(size).is_some_and(|end| end <= bytes.len() as u64);
    for segment in header.program_headers(endian, bytes).map_err(|_| cut("its program headers lie outside the file"))? {
        if !inside(segment.p_offset(endian), segment.p_filesz(endian)) {
            return Err(cut("a segment lies outside the file"));
        }
    }
    for section in header.section_headers(endian, bytes).map_err(|_| cut("its section headers lie outside the file"))? {
        if section.sh_type(endian) != SHT_NOBITS && !inside(section.sh_offset(endian), section.sh_size(endian)) {
            return Err(cut("a section lies outside the file"));
        }
    }
    let file = object::File::parse(bytes).map_err(|_| cut("it does not parse"))?;
    let defined = file.dynamic_symbols().any(|candidate| candidate.is_definition() && candidate.name() == Ok(symbol));
    if !defined {
        return Err(format!("is a shared library, but not a strategy: it defines no symbol {symbol}"));
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
const MACHINE: object::elf::Machine = object::elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: object::elf::Machine = object::elf::EM_AARCH64;
