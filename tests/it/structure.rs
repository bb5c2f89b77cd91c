//! The structure of the sources, as a parser sees it: floors, no imports in a circle, and a type has
//! a name of its own.

use std::collections::{BTreeMap, BTreeSet};

use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree};

use crate::house::{code_of, sources};

/// Floor of each room; a room uses only rooms below it.
const FLOORS: [(&str, u8); 18] = [
    ("base", 0),
    ("metrics", 1),
    ("frame", 2),
    ("wire", 3),
    ("image", 3),
    ("analysis", 3),
    ("redis", 3),
    ("ring", 3),
    ("stage", 4),
    ("camera", 4),
    ("config", 4),
    ("engine", 5),
    ("ingest", 5),
    ("bridge", 5),
    ("http", 6),
    ("processor", 6),
    ("instruments", 6),
    ("cli", 7),
];

/// The rooms within `redis`; each uses only those before it.
const REDIS_ROOMS: [&str; 5] = ["protocol", "topology", "control", "data", "check"];

/// The path of a module from the root of the crate, as in `["stage", "commit"]`.
type Module = Vec<String>;

/// What one file names with `crate::`, `super::` or `self::`, without its tests.
#[derive(Default)]
struct Named {
    /// Paths as written, by segment.
    paths: Vec<Vec<String>>,
    /// Names that the file shows as its own: the path of each as written.
    shown: BTreeMap<String, Vec<String>>,
    /// The types that it defines.
    types: Vec<String>,
}

fn is_of_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|name| name == "test")
    })
}

/// Every path of a `use` with the name that it has afterwards.
fn leaves(tree: &UseTree, before: &[String], into: &mut Vec<(Vec<String>, String)>) {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(path) => leaves(&path.tree, &with(&path.ident), into),
        UseTree::Name(name) if name.ident == "self" => {
            into.push((before.to_vec(), before.last().cloned().unwrap_or_default()));
        }
        UseTree::Name(name) => into.push((with(&name.ident), name.ident.to_string())),
        UseTree::Rename(name) => into.push((with(&name.ident), name.rename.to_string())),
        UseTree::Glob(_) => into.push((before.to_vec(), "*".into())),
        UseTree::Group(group) => group.items.iter().for_each(|item| leaves(item, before, into)),
    }
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_of_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item(&mut self, item: &'ast Item) {
        let defined = match item {
            Item::Struct(item) => Some(&item.ident),
            Item::Enum(item) => Some(&item.ident),
            Item::Union(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            Item::Type(item) => Some(&item.ident),
            _ => None,
        };
        self.types.extend(defined.map(ToString::to_string));
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_of_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let mut all = Vec::new();
        leaves(&item.tree, &[], &mut all);
        for (path, name) in all {
            self.paths.push(path.clone());
            self.shown.insert(name, path);
        }
    }

    /// Most macros take expressions.
    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.paths.push(item.path.segments.iter().map(|part| part.ident.to_string()).collect());
        let expressions = Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated;
        for expression in item.parse_body_with(expressions).into_iter().flatten() {
            let mut inner = Named::default();
            inner.visit_expr(&expression);
            self.paths.append(&mut inner.paths);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

/// The module of a file below `src`.
fn module_of(path: &str) -> Module {
    let mut module: Module = path.trim_end_matches(".rs").split('/').map(String::from).collect();
    module.pop_if(|last| ["mod", "lib"].contains(&last.as_str()));
    module
}

/// A path as written in `module`, from the root of the crate; `None` for those of other crates.
fn resolved(module: &Module, path: &[String], modules: &BTreeMap<Module, Named>) -> Option<Module> {
    let (mut from, mut rest) = (module.clone(), path);
    match path.first()?.as_str() {
        "crate" => (from, rest) = (Vec::new(), &path[1..]),
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                from.pop();
                rest = &rest[1..];
            }
        }
        child => {
            from.push(child.to_owned());
            if !modules.contains_key(&from) {
                return None;
            }
            rest = &path[1..];
        }
    }
    Some([&from[..], rest].concat())
}

/// The module that holds what `path` names; names that a module shows lead to where they are from.
fn holder(mut path: Module, modules: &BTreeMap<Module, Named>) -> Module {
    for _ in 0..16 {
        let Some(end) = (0..=path.len()).rev().find(|end| modules.contains_key(&path[..*end]))
        else {
            break;
        };
        let module = path[..end].to_vec();
        let shown = path.get(end).and_then(|name| modules[&module].shown.get(name));
        match shown.and_then(|shown| resolved(&module, shown, modules)) {
            Some(from) if from.starts_with(&module) && from != path => {
                path = [&from[..], &path[end + 1..]].concat();
            }
            _ => return module,
        }
    }
    Vec::new()
}

/// By folder, which of its modules use which of their neighbours, with a file that does.
type Graph = BTreeMap<Module, BTreeMap<String, BTreeMap<String, Module>>>;

fn graph(modules: &BTreeMap<Module, Named>) -> Graph {
    let mut graph = Graph::new();
    for (module, named) in modules {
        for path in &named.paths {
            let Some(path) = resolved(module, path, modules) else { continue };
            let used = holder(path, modules);
            let common = module.iter().zip(&used).take_while(|(own, other)| own == other).count();
            if common < module.len() && common < used.len() {
                let folder = graph.entry(module[..common].to_vec()).or_default();
                let uses = folder.entry(module[common].clone()).or_default();
                uses.insert(used[common].clone(), module.clone());
            }
        }
    }
    graph
}

/// Everything that `from` uses, directly or through others.
fn reached<'a>(
    from: &str,
    uses: &'a BTreeMap<String, BTreeMap<String, Module>>,
) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> =
        uses.get(from).into_iter().flat_map(BTreeMap::keys).map(|name| &**name).collect();
    while let Some(name) = open.pop() {
        if reached.insert(name) {
            open.extend(uses.get(name).into_iter().flat_map(BTreeMap::keys).map(|name| &**name));
        }
    }
    reached
}

/// The modules of `src` but for those of tests, and `main`, which only calls one function.
fn parsed_modules() -> BTreeMap<Module, Named> {
    let mut modules = BTreeMap::new();
    for (path, text) in sources("src") {
        let module = module_of(&path["src/".len()..]);
        if module == ["main"] || module.iter().any(|part| part == "tests") {
            continue;
        }
        assert!(modules.insert(module, named(&text)).is_none(), "{path}");
    }
    modules
}

/// What a file of this text names.
fn named(text: &str) -> Named {
    let mut named = Named::default();
    named.visit_file(&syn::parse_file(text).unwrap());
    named
}

/// Every use between neighbours that is part of a circle.
fn circles(graph: &Graph) -> Vec<String> {
    let mut circles = Vec::new();
    for (folder, uses) in graph {
        for (module, neighbours) in uses {
            for (neighbour, by) in neighbours {
                if reached(neighbour, uses).contains(module.as_str()) {
                    let (folder, by) = (folder.join("/"), by.join("/"));
                    circles.push(format!("{folder}: {module} uses {neighbour}, in {by}"));
                }
            }
        }
    }
    circles
}

/// Every use in a folder that `may` refuses, by the names of user and used.
fn refused(graph: &Graph, folder: &[&str], may: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut refused = Vec::new();
    for (module, neighbours) in &graph[&folder.iter().map(|it| it.to_string()).collect::<Module>()]
    {
        for (neighbour, by) in neighbours.iter().filter(|(used, _)| !may(module, used)) {
            refused.push(format!("{module} uses {neighbour}, in {}", by.join("/")));
        }
    }
    refused
}

#[test]
fn a_room_uses_only_rooms_below_its_own() {
    let floor = |room: &str| FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor);
    let modules = parsed_modules();
    let unknown = modules.keys().filter_map(|module| module.first());
    let unknown: BTreeSet<_> = unknown.filter(|room| floor(room).is_none()).collect();
    assert!(unknown.is_empty(), "rooms without a floor: {unknown:?}");
    let graph = graph(&modules);
    // The test itself sees imports: the stages use Redis, and the engine the stages.
    assert!(graph[&Vec::new()]["stage"].contains_key("redis"));
    assert!(graph[&Vec::new()]["engine"].contains_key("stage"));
    let faults = refused(&graph, &[], |room, used| floor(used) < floor(room));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn a_room_of_redis_uses_only_rooms_before_it() {
    let place = |room: &str| REDIS_ROOMS.iter().position(|name| *name == room).unwrap();
    let faults =
        refused(&graph(&parsed_modules()), &["redis"], |room, used| place(used) < place(room));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn a_circle_is_found_through_names_that_a_folder_shows() {
    let files = [
        (vec![], "mod a;"),
        (vec!["a"], "mod b; mod c; pub use c::Shown; #[cfg(test)] mod tests { use crate::d; }"),
        (vec!["a", "b"], "fn f() { assert!(matches!(1, _), super::Shown::new()) }"),
        (vec!["a", "c"], "pub struct Shown; use super::{b::{self, f}};"),
    ];
    let modules = files.map(|(module, text)| {
        (module.into_iter().map(String::from).collect::<Module>(), named(text))
    });
    let found = circles(&graph(&BTreeMap::from(modules)));
    assert_eq!(found, ["a: b uses c, in a/b", "a: c uses b, in a/c"]);
}

#[test]
fn the_modules_of_a_folder_use_each_other_in_one_direction() {
    let circles = circles(&graph(&parsed_modules()));
    assert!(circles.is_empty(), "imports in a circle:\n{}", circles.join("\n"));
}

/// The type that `choice!` or `section!` of the configuration makes of this line.
fn type_of_macro(code: &str) -> Option<&str> {
    let rest = code.strip_prefix("    ")?;
    let (name, rest) = rest.split_once(' ')?;
    let is_type = name.starts_with(|letter: char| letter.is_ascii_uppercase());
    (is_type && (rest == "{" || rest.starts_with("in "))).then_some(name)
}

#[test]
fn a_type_has_a_name_of_its_own() {
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for (module, named) in parsed_modules() {
        for name in named.types {
            found.entry(name).or_default().push(module.join("/"));
        }
    }
    let has_macros = |path: &str| {
        path == "src/config/choice.rs"
            || path.starts_with("src/config/table/") && !path.ends_with("mod.rs")
    };
    for (path, text) in sources("src/config").iter().filter(|(path, _)| has_macros(path)) {
        for line in text.lines() {
            if let Some(name) = type_of_macro(&code_of(line)) {
                found.entry(name.to_owned()).or_default().push(path.clone());
            }
        }
    }
    for known in ["Receipt", "LeaseKeeper", "Retention", "LogConfig"] {
        assert_eq!(found[known].len(), 1, "{known}: {:?}", found[known]);
    }
    found.retain(|_, modules| modules.len() > 1);
    assert!(found.is_empty(), "{found:#?}");
}
