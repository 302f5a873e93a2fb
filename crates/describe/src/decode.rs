//! From foreign bytes to wit-parser's types, whatever the bytes are.
//!
//! `wit_parser` decodes what its own encoder and linkers produce. On anything else it mostly
//! returns errors, but it also asserts and unwraps on the way, and walks types by recursion. A
//! master reads bytes that a host sent, and must outlive them. So:
//!
//! * the size is capped before anything is read;
//! * declarations of types within declarations are counted as bytes, because `wasmparser` reads
//!   them by recursion without a limit: four bytes a level, so that a file of one megabyte overflows
//!   any stack, and that ends the process. See [`nesting_at_most`];
//! * types are counted in a pass of `wasmparser`, and too many are refused: the time and memory of
//!   decoding are in proportion to them;
//! * all of it runs on a thread of its own: its stack is large enough for the deepest nesting that
//!   is let through, and a panic ends that thread only and becomes an error here. The panic's
//!   message still goes to standard error, which is as well: it is a bug in a library.

use crate::DescribeError;
use wasmparser::{Parser, Payload};
use wit_parser::{Resolve, WorldId, decoding::DecodedWasm};

/// Largest binary WIT package: that of the part of a bundle.
const MAX_WIT_BYTES: usize = 4 << 20;
/// Largest component: that of the part of a bundle.
const MAX_COMPONENT_BYTES: usize = 64 << 20;
/// Declarations within declarations. A real package nests three deep and has two for each interface.
const MAX_NESTING: usize = 2_000;
/// Types in all. The whole host interface has about one hundred.
const MAX_TYPES: usize = 10_000;
/// Stack for decoding; memory is used only as deep as the recursion goes.
const STACK_BYTES: usize = 64 << 20;

/// What was decoded: a world, and whether it was written in WIT or found in a component.
pub(crate) struct Decoded {
    pub(crate) resolve: Resolve,
    pub(crate) root: Root,
}

pub(crate) enum Root {
    Package(wit_parser::PackageId),
    World(WorldId),
}

pub(crate) fn package(bytes: &[u8]) -> Result<Decoded, DescribeError> {
    let expected = "a binary WIT package";
    match decode(bytes, expected, MAX_WIT_BYTES)? {
        DecodedWasm::WitPackage(resolve, package) => Ok(Decoded { resolve, root: Root::Package(package) }),
        DecodedWasm::Component(..) => Err(malformed(expected, "it is a component")),
    }
}

pub(crate) fn component(bytes: &[u8]) -> Result<Decoded, DescribeError> {
    let expected = "a component";
    match decode(bytes, expected, MAX_COMPONENT_BYTES)? {
        DecodedWasm::Component(resolve, world) => Ok(Decoded { resolve, root: Root::World(world) }),
        DecodedWasm::WitPackage(..) => Err(malformed(expected, "it is a binary WIT package")),
    }
}

fn decode(bytes: &[u8], expected: &'static str, max_bytes: usize) -> Result<DecodedWasm, DescribeError> {
    if bytes.len() > max_bytes {
        return Err(DescribeError::TooLarge { what: format!("{} bytes", bytes.len()), limit: max_bytes });
    }
    let decoded = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("wit-decode".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || {
                count_types(bytes, expected)?;
                wit_parser::decoding::decode(bytes).map_err(|error| malformed(expected, format!("{error:#}")))
            })
            .map(std::thread::ScopedJoinHandle::join)
    });
    match decoded {
        Ok(Ok(decoded)) => decoded,
        Ok(Err(_panic)) => Err(malformed(expected, "the decoder gave up on it")),
        Err(error) => Err(malformed(expected, format!("no thread to decode it: {error}"))),
    }
}

fn count_types(bytes: &[u8], expected: &'static str) -> Result<(), DescribeError> {
    let mut types = 0usize;
    let mut nesting = 0usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| malformed(expected, error))?;
        if let Payload::ComponentTypeSection(section) = payload {
            nesting += nesting_at_most(bytes.get(section.range()).unwrap_or_default());
            if nesting > MAX_NESTING {
                let what = "too many declarations within declarations".to_owned();
                return Err(DescribeError::TooLarge { what, limit: MAX_NESTING });
            }
            for ty in section {
                types += declarations(&ty.map_err(|error| malformed(expected, error))?);
            }
            if types > MAX_TYPES {
                return Err(DescribeError::TooLarge { what: "too many types".into(), limit: MAX_TYPES });
            }
        }
    }
    Ok(())
}

/// How deep the declarations of a section can nest at most, told from its bytes alone.
///
/// Only the type of a component (`0x41`) or of an instance (`0x42`) holds declarations, and one
/// stands within another only as a declaration of a type, which is the byte `0x01` and then the type
/// (component-model, Binary.md, "Type definitions"). So each level below the first has such a pair
/// of bytes of its own. Pairs that stand for something else, within a name, only make it stricter.
fn nesting_at_most(section: &[u8]) -> usize {
    section.windows(2).filter(|pair| matches!(pair, [0x01, 0x41 | 0x42])).count()
}

/// A type and the declarations in it. The recursion is as deep as [`nesting_at_most`] lets through.
fn declarations(ty: &wasmparser::ComponentType<'_>) -> usize {
    use wasmparser::{ComponentType, ComponentTypeDeclaration, InstanceTypeDeclaration};
    1 + match ty {
        ComponentType::Component(inner) => inner
            .iter()
            .map(|declaration| match declaration {
                ComponentTypeDeclaration::Type(ty) => declarations(ty),
                _ => 1,
            })
            .sum(),
        ComponentType::Instance(inner) => inner
            .iter()
            .map(|declaration| match declaration {
                InstanceTypeDeclaration::Type(ty) => declarations(ty),
                _ => 1,
            })
            .sum(),
        _ => 0,
    }
}

/// An error from the decoder as one line of bounded length: it may quote the bytes.
fn malformed(expected: &'static str, why: impl std::fmt::Display) -> DescribeError {
    let why: String =
        why.to_string().chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect();
    DescribeError::Malformed { expected, why }
}
