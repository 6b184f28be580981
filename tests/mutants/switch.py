"""Compiles all mutants of a source file into it, each behind a switch: the mutant whose number the environment variable
MUTANT has is on. One build then serves every mutant, instead of one for each.

cargo-mutants says which mutants there are, and where.
"""

import re
from collections import defaultdict

import tree_sitter
import tree_sitter_rust

RUST = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))

FUNCTION = """
/// Whether the mutant with this number is on.
#[doc(hidden)]
pub fn mutant_is_on(number: u32) -> bool {
    static ON: std::sync::LazyLock<Option<u32>> =
        std::sync::LazyLock::new(|| std::env::var("MUTANT").ok()?.parse().ok());
    *ON == Some(number)
}
"""


class Source:
    """A source file with its mutants. `crate` is the path of the crate that has `FUNCTION`."""

    def __init__(self, text, crate):
        self.bytes, self.crate = text.encode(), crate
        self.tree = RUST.parse(self.bytes)
        self.lines = self.bytes.split(b"\n")
        self.mutants = defaultdict(list)

    def add(self, number, mutant):
        """Adds a mutant. Returns why it cannot be switched, if so: it is `unviable`, or part of a `constant`."""
        start, end = (self.offset(mutant["span"][side]) for side in ("start", "end"))
        root, genre = self.tree.root_node, mutant["genre"]
        node = root.descendant_for_byte_range(start, start if genre == "FnValue" else max(start, end - 1))
        match genre:
            case "BinaryOperator" | "UnaryOperator":
                node = node.parent
                if node.type == "let_chain":
                    return "unviable"
            case "FnValue":
                node = self.body_at(node, start)
            case "MatchArm":
                node = enclosing(node, "match_arm")
                if not any(self.is_wildcard(arm) for arm in node.parent.named_children):
                    return "unviable"
                node = node.child_by_field_name("pattern")
            case "MatchArmGuard":
                node = enclosing(node, "match_pattern")
            case "StructField":
                node = enclosing(node, "field_initializer", "shorthand_field_initializer")
                assert node, mutant
        function = enclosing(node, "function_item")
        if not function or self.is_const(function):
            return "constant"
        self.mutants[node.id].append((number, mutant))
        return None

    def is_wildcard(self, arm):
        pattern = arm.child_by_field_name("pattern")
        return pattern is not None and (self.source(pattern) == "_" or re.fullmatch(r"[a-z_]+", self.source(pattern)))

    def offset(self, position):
        line = self.lines[position["line"] - 1].decode()
        before = sum(len(line) + 1 for line in self.lines[: position["line"] - 1])
        return before + len(line[: position["column"] - 1].encode())

    def body_at(self, node, start):
        """The body whose first statement is at `start`."""
        while node := enclosing(node, "function_item"):
            body = node.child_by_field_name("body")
            statements = [child for child in body.named_children if "comment" not in child.type]
            if body.start_byte < start and not any(child.end_byte <= start for child in statements):
                return body
            node = node.parent
        return None

    def is_const(self, function):
        modifiers = [child for child in function.children if child.type == "function_modifiers"]
        return any(b"const" in self.bytes[child.start_byte : child.end_byte].split() for child in modifiers)

    def text(self):
        """The file with all mutants. Each has its number around it, by which `numbers_of` finds it again."""
        root = self.tree.root_node
        return self.between(0, root.start_byte) + self.render(root) + self.between(root.end_byte, len(self.bytes))

    def between(self, start, end):
        return self.bytes[start:end].decode()

    def source(self, node):
        return self.between(node.start_byte, node.end_byte)

    def is_on(self, number):
        return f"{self.crate}::mutant_is_on({number})"

    def render(self, node):
        mutants = self.mutants.get(node.id)
        if not mutants:
            return self.children(node)
        match node.type:
            case "unary_expression":
                operator, operand = node.children[0], self.render(node.children[1])
                return self.choose([(number, operand) for number, _ in mutants], self.source(operator) + operand)
            case "binary_expression" | "compound_assignment_expr":
                left, right = (self.render(node.child_by_field_name(side)) for side in ("left", "right"))
                operator = self.source(node.child_by_field_name("operator"))
                mutated = [(number, f"{left} {mutant['replacement']} {right}") for number, mutant in mutants]
                return self.choose(mutated, f"{left} {operator} {right}")
            case "block":
                returns = "".join(
                    f"if {self.is_on(number)} {{ {mark(number, 'return ' + mutant['replacement'] + ';')} }} "
                    for number, mutant in mutants
                )
                return "{ " + returns + self.children(node)[1:]
            case "match_pattern":
                return self.match_pattern(node, mutants)
            case "field_initializer" | "shorthand_field_initializer":
                field, value = node.child_by_field_name("field"), node.child_by_field_name("value")
                name = self.source(field or node)
                value = self.render(value) if value else name
                base = next(child for child in node.parent.children if child.type == "base_field_initializer")
                mutated = f"({self.source(base)[2:]}).{name}"
                return f"{name}: {self.choose([(number, mutated) for number, _ in mutants], value)}"

    def match_pattern(self, node, mutants):
        """A guard that another replaces, or an arm that never matches while its mutant is on."""
        guard = node.child_by_field_name("condition")
        pattern = self.between(node.start_byte, guard.start_byte if guard else node.end_byte)
        conditions = []
        if guard:
            pattern = pattern.rstrip().removesuffix("if")
            replaced = [(number, mutant["replacement"]) for number, mutant in mutants if mutant["replacement"]]
            conditions.append(self.choose(replaced, self.render(guard)))
        deleted = [number for number, mutant in mutants if not mutant["replacement"]]
        conditions += [mark(number, f"!{self.is_on(number)}") for number in deleted]
        return f"{pattern} if {' && '.join(reversed(conditions))} "

    def choose(self, mutated, original):
        branches = "".join(f"if {self.is_on(number)} {{ {mark(number, text)} }} else " for number, text in mutated)
        return f"({branches}{{ {original} }})"

    def children(self, node):
        if not node.children:
            return self.source(node)
        parts, position = [], node.start_byte
        for child in node.children:
            parts += [self.between(position, child.start_byte), self.render(child)]
            position = child.end_byte
        return "".join(parts) + self.between(position, node.end_byte)


def enclosing(node, *types):
    while node and node.type not in types:
        node = node.parent
    return node


def mark(number, text):
    return f"/*<{number}*/{text}/*{number}>*/"


def numbers_of(error, tree):
    """The numbers of the mutants that a compiler's error is about: the innermost around each place that it names, else one
    that is switched there."""
    spans = sorted(error["spans"], key=lambda span: not span["is_primary"])
    for span in spans:
        text = (tree / span["file_name"]).read_bytes()
        start, end = span["byte_start"], span["byte_end"]
        around = []
        for match in re.finditer(rb"/\*<(\d+)\*/", text):
            close = text.index(b"/*" + match[1] + b">*/", match.end())
            if match.start() <= start and end <= close + len(match[0]):
                around.append((close - match.start(), int(match[1])))
        if around:
            return {min(around)[1]}
        if switched := re.search(rb"mutant_is_on\((\d+)\)", text[start:end]):
            return {int(switched[1])}
    return set()
