//! The types of a function, as a plain tree that needs no component to exist.

use wasmtime::component::Type;
use wasmtime::component::types::ComponentFunc;

use super::DEPTH_MAX;

/// Nodes of one function's types. Types share parts, and a short text can describe an enormous tree.
const NODES_MAX: usize = 10_000;

/// A type whose values can be written as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    Float32,
    Float64,
    Char,
    String,
    List(Box<Shape>),
    Record(Vec<(String, Shape)>),
    Tuple(Vec<Shape>),
    Variant(Vec<(String, Option<Shape>)>),
    Enum(Vec<String>),
    Option(Box<Shape>),
    Result(Option<Box<Shape>>, Option<Box<Shape>>),
    Flags(Vec<String>),
}

/// Parameters and result of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(super) params: Vec<(String, Shape)>,
    /// Whether it returns a value; values name their own parts.
    pub(crate) has_result: bool,
}

impl Signature {
    /// Reads the types of a function, or says which of them cannot cross.
    pub(crate) fn of(function: &ComponentFunc) -> Result<Signature, String> {
        let mut reader = Reader { nodes: 0 };
        let mut params = Vec::new();
        for (name, ty) in function.params() {
            let shape = reader.shape(&ty, 0).map_err(|reason| format!("parameter `{name}`: {reason}"))?;
            params.push((name.to_owned(), shape));
        }
        for ty in function.results() {
            reader.shape(&ty, 0).map_err(|reason| format!("its result: {reason}"))?;
        }
        Ok(Signature { params, has_result: function.results().len() > 0 })
    }
}

struct Reader {
    nodes: usize,
}

impl Reader {
    fn shape(&mut self, ty: &Type, depth: usize) -> Result<Shape, String> {
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            return Err(format!(
                "its type is nested deeper than {DEPTH_MAX} or has more than {NODES_MAX} parts"
            ));
        }
        Ok(match ty {
            Type::Bool => Shape::Bool,
            Type::S8 => Shape::S8,
            Type::U8 => Shape::U8,
            Type::S16 => Shape::S16,
            Type::U16 => Shape::U16,
            Type::S32 => Shape::S32,
            Type::U32 => Shape::U32,
            Type::S64 => Shape::S64,
            Type::U64 => Shape::U64,
            Type::Float32 => Shape::Float32,
            Type::Float64 => Shape::Float64,
            Type::Char => Shape::Char,
            Type::String => Shape::String,
            compound => return self.compound(compound, depth + 1),
        })
    }

    fn compound(&mut self, ty: &Type, depth: usize) -> Result<Shape, String> {
        Ok(match ty {
            Type::List(list) => Shape::List(Box::new(self.shape(&list.ty(), depth)?)),
            Type::Option(option) => Shape::Option(Box::new(self.shape(&option.ty(), depth)?)),
            Type::Enum(names) => Shape::Enum(names.names().map(str::to_owned).collect()),
            Type::Flags(names) => Shape::Flags(names.names().map(str::to_owned).collect()),
            Type::Result(result) => {
                Shape::Result(self.boxed(result.ok(), depth)?, self.boxed(result.err(), depth)?)
            }
            Type::Tuple(tuple) => {
                Shape::Tuple(tuple.types().map(|ty| self.shape(&ty, depth)).collect::<Result<_, _>>()?)
            }
            Type::Record(record) => {
                let field = |field: wasmtime::component::types::Field<'_>| {
                    Ok((field.name.to_owned(), self.shape(&field.ty, depth)?))
                };
                Shape::Record(record.fields().map(field).collect::<Result<_, String>>()?)
            }
            Type::Variant(variant) => {
                let case = |case: wasmtime::component::types::Case<'_>| {
                    let payload = case.ty.map(|ty| self.shape(&ty, depth)).transpose()?;
                    Ok((case.name.to_owned(), payload))
                };
                Shape::Variant(variant.cases().map(case).collect::<Result<_, String>>()?)
            }
            Type::Own(_) | Type::Borrow(_) => return Err("a resource cannot leave its component".to_owned()),
            _ => return Err("streams, futures and the like cannot leave their component".to_owned()),
        })
    }

    fn boxed(&mut self, ty: Option<Type>, depth: usize) -> Result<Option<Box<Shape>>, String> {
        ty.map(|ty| self.shape(&ty, depth).map(Box::new)).transpose()
    }
}
