//! From foreign bytes to wit-parser's types, whatever the bytes are.
//!
//! `wit_parser` decodes what its own encoder and linkers produce. On anything else it mostly
//! returns errors, but it also asserts and unwraps on the way, and walks types by recursion. A
//! master reads bytes that a host sent, and must outlive them. So:
//!
//! * the size is capped before anything is read;
//! * types are counted in a first pass of `wasmparser`, which has hard limits of its own, and too
//!   many are refused: the time and memory of decoding are in proportion to them;
//! * decoding runs on a thread of its own: its stack is large enough for the deepest nesting that
//!   is let through, and a panic ends that thread only and becomes an error here. The panic's
//!   message still goes to standard error, which is as well: it is a bug in a library.

use crate::DescribeError;
use wasmparser::{Parser, Payload};
use wit_parser::{Resolve, WorldId, decoding::DecodedWasm};

/// Largest binary WIT package: that of the part of a bundle.
const MAX_WIT_BYTES: usize = 4 << 20;
/// Largest component: that of the part of a bundle.
const MAX_COMPONENT_BYTES: usize = 64 << 20;
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
    count_types(bytes, expected)?;
    let decoded = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("wit-decode".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || wit_parser::decoding::decode(bytes))
            .map(std::thread::ScopedJoinHandle::join)
    });
    match decoded {
        Ok(Ok(Ok(decoded))) => Ok(decoded),
        Ok(Ok(Err(error))) => Err(malformed(expected, format!("{error:#}"))),
        Ok(Err(_panic)) => Err(malformed(expected, "the decoder gave up on it")),
        Err(error) => Err(malformed(expected, format!("no thread to decode it: {error}"))),
    }
}

fn count_types(bytes: &[u8], expected: &'static str) -> Result<(), DescribeError> {
    let mut types = 0usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| malformed(expected, error))?;
        if let Payload::ComponentTypeSection(section) = payload {
            for ty in section {
                types += declarations(&ty.map_err(|error| malformed(expected, error))?);
            }
            if types > MAX_TYPES {
                return Err(DescribeError::TooLarge {
                    what: format!("more than {MAX_TYPES} types"),
                    limit: MAX_TYPES,
                });
            }
        }
    }
    Ok(())
}

/// A type and the declarations in it. The recursion is as deep as `wasmparser` lets types nest.
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
