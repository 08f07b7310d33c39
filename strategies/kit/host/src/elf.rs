//! Checks of a candidate's bytes as a library, before any of them can run.
//!
//! Why in memory: `dlopen` does not return an error for a truncated library, but gets a SIGBUS.
//!
//! Why dependencies are checked: images stay loaded side by side until the process ends. The dynamic linker would let
//! them share libraries by name, and symbols that are marked unique. A plugin must not depend on another one.
//!
//! These checks find mistakes. They do not protect against an attack, because a plugin is trusted code.

use object::Endianness;
use object::elf::{
    DF_TEXTREL, DT_AUXILIARY, DT_FILTER, DT_FLAGS, DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_TEXTREL, DynamicFlags, ET_DYN,
    FileHeader64, PF_X, PT_GNU_STACK, SHT_DYNSYM, SHT_NOBITS, STB_GNU_UNIQUE,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};

type Header = FileHeader64<Endianness>;
type Sections<'a> = SectionTable<'a, Header>;

/// Libraries that every process has: the C library and the compiler's runtime, by their names before `.so`.
const SYSTEM_LIBRARIES: [&str; 6] = ["libc", "libm", "libgcc_s", "libpthread", "libdl", "librt"];
/// Those whose names end with the machine's: dynamic linkers, and the C library musl.
const SYSTEM_PREFIXES: [&str; 3] = ["ld-linux", "ld-musl", "libc.musl"];

#[cfg(target_arch = "x86_64")]
const MACHINE: object::elf::Machine = object::elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: object::elf::Machine = object::elf::EM_AARCH64;

/// Checks for a complete shared object for this machine that defines the entry `symbol`. It must not share libraries or
/// symbols with other plugins. It must need no writable code and no executable stack.
pub(crate) fn check(bytes: &[u8], symbol: &str) -> Result<(), String> {
    if !bytes.starts_with(b"\x7fELF") {
        return Err("is not a shared library (no ELF header): name a lib<strategy>.so built for this machine".into());
    }
    let header = Header::parse(bytes).map_err(|_| cut("its ELF header does not parse"))?;
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
    whole(bytes, header, endian)?;
    let sections = header.sections(endian, bytes).map_err(|_| cut("its section headers do not parse"))?;
    symbols(bytes, &sections, endian, symbol)?;
    dependencies(bytes, &sections, endian)?;
    stack(bytes, header, endian)
}

fn cut(what: &str) -> String {
    format!("is damaged or cut short ({what}): copy or build it again")
}

/// Checks that every segment and section lies inside the file.
fn whole(bytes: &[u8], header: &Header, endian: Endianness) -> Result<(), String> {
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
    Ok(())
}

/// Checks that the entry is defined, and that no symbol is unique in the process.
fn symbols(bytes: &[u8], sections: &Sections<'_>, endian: Endianness, entry: &str) -> Result<(), String> {
    let table = sections.symbols(endian, bytes, SHT_DYNSYM).map_err(|_| cut("its symbols do not parse"))?;
    let mut has_entry = false;
    for symbol in table.iter().filter(|symbol| !symbol.is_undefined(endian)) {
        let name = table.symbol_name(endian, symbol).map_err(|_| cut("a symbol has no name"))?;
        has_entry |= name == entry.as_bytes();
        if symbol.st_bind() == STB_GNU_UNIQUE {
            return Err(format!(
                "defines {} as unique in the process (STB_GNU_UNIQUE), so all its builds would share it: compile with \
                 -fno-gnu-unique, link with -Wl,--exclude-libs,ALL",
                String::from_utf8_lossy(name)
            ));
        }
    }
    if !has_entry {
        return Err(format!("is a shared library, but not a strategy: it defines no symbol {entry}"));
    }
    Ok(())
}

/// Checks that the library needs only libraries of the system, has no search path for libraries, and has no relocations
/// in its code.
fn dependencies(bytes: &[u8], sections: &Sections<'_>, endian: Endianness) -> Result<(), String> {
    let unreadable = || cut("its dynamic section does not parse");
    let table = sections.dynamic_table(endian, bytes).map_err(|_| unreadable())?;
    for entry in &table {
        let text = || table.string(entry).map(String::from_utf8_lossy).map_err(|_| unreadable());
        match entry.tag {
            DT_NEEDED | DT_AUXILIARY | DT_FILTER => {
                let library = text()?;
                if !is_system_library(&library) {
                    return Err(foreign(&library));
                }
            }
            DT_RPATH | DT_RUNPATH => {
                return Err(format!(
                    "has a search path for libraries (RPATH {}): link libraries statically, and build it without -rpath",
                    text()?
                ));
            }
            DT_TEXTREL => return Err(writable_code()),
            DT_FLAGS if DynamicFlags(entry.val).0 & DF_TEXTREL.0 != 0 => return Err(writable_code()),
            _ => {}
        }
    }
    Ok(())
}

fn is_system_library(name: &str) -> bool {
    let stem = name.split_once(".so").map_or(name, |(stem, _)| stem);
    SYSTEM_LIBRARIES.contains(&stem) || SYSTEM_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn foreign(library: &str) -> String {
    let advice = match library.split_once(".so") {
        Some(("libstdc++", _)) => "link it statically (-static-libstdc++ -fno-gnu-unique -Wl,--exclude-libs,ALL)",
        _ => "link it statically",
    };
    format!(
        "needs {library}, which it would share by name with every other plugin: {advice}; only the C library, libm, libgcc_s, libpthread, libdl and \
         librt may be needed"
    )
}

fn writable_code() -> String {
    "has relocations in its code (TEXTREL), which would have to be writable: compile all of it with -fPIC".into()
}

/// Checks the stack. Without this header the dynamic linker makes the stacks of all threads executable.
fn stack(bytes: &[u8], header: &Header, endian: Endianness) -> Result<(), String> {
    let segments =
        header.program_headers(endian, bytes).map_err(|_| cut("its program headers lie outside the file"))?;
    let stack = segments.iter().find(|segment| segment.p_type(endian) == PT_GNU_STACK);
    if stack.is_none_or(|stack| stack.p_flags(endian).0 & PF_X.0 != 0) {
        return Err("needs an executable stack: link it with -Wl,-z,noexecstack".into());
    }
    Ok(())
}
