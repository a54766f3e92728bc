"""Source code: definitions as headings."""

from __future__ import annotations

import pytest

from omnimemory.sources.formats.source_code import read_code

SOURCES = {
    "python": """
import os

@cache
def top(a):
    def inner(): pass

class A(B):
    x = 1
    async def m(self): ...
""",
    "javascript": """
export default async function load(x) {
}
const add = (a, b) => a + b;
let n = 5;
class Q {
  go() {}
}
""",
    "typescript": """
export interface Shape { a: number }
export const f: Fn = async (x: number): Promise<void> => {}
type T = 1
""",
    "go": """
func (s *Server) Run(x int) error {
}
type Server struct {
""",
    "rust": """
pub(crate) async fn go() {}
impl<T> Show for Box<T> {
    pub fn show(&self) {}
}
macro_rules! m {
""",
    "java": """
public final class A {
    private static int f(int x) {
        return g(x);
    }
}
record R(int a) {}
""",
    "c": """
#include <x.h>
static int *find(const char *name) {
    if (x) {
    }
}
int g(int);
struct node {
void
h(void)
""",
    "cpp": """
namespace a {
void Box::open(int x) const {
}
class Lid : public Box {
""",
    "ruby": """
module M
  class A < B
    def self.x?(y)
""",
    "shell": """
f() {
  echo
}
function g-h {
}
x=$(y)
""",
    "make": """
CC := gcc
all: x
\techo
build/x.o: x.c
""",
    "sql": """
CREATE TABLE users (
  id int
);
select 1;
""",
    "toml": """
[project]
name = 1
[[tool.x]]
""",
    "json": '{"a": 1}',
}
DEFINITIONS = {
    "python": [(1, "top"), (2, "inner"), (1, "A"), (2, "m")],
    "javascript": [(1, "load"), (1, "add"), (1, "Q")],
    "typescript": [(1, "Shape"), (1, "f"), (1, "T")],
    "go": [(1, "Run"), (1, "Server")],
    "rust": [(1, "go"), (1, "impl<T> Show for Box<T>"), (2, "show"), (1, "m")],
    "java": [(1, "A"), (2, "f"), (1, "R")],
    "c": [(1, "find"), (1, "node"), (1, "h")],
    "cpp": [(1, "a"), (1, "Box::open"), (1, "Lid")],
    "ruby": [(1, "M"), (2, "A"), (3, "self.x?")],
    "shell": [(1, "f"), (1, "g-h")],
    "make": [(1, "all"), (1, "build/x.o")],
    "sql": [(1, "CREATE TABLE users")],
    "toml": [(1, "project"), (1, "tool.x")],
    "json": [],
}


@pytest.mark.parametrize(("language", "text"), SOURCES.items(), ids=SOURCES)
def test_definitions_are_the_headings_of_source_code(language, text):
    document = read_code("/x/a", text, language)
    assert [(heading.level, heading.title) for heading in document.headings] == DEFINITIONS[language]
    assert all(document.text[h.start - 1 : h.start] in {"", "\n"} for h in document.headings)
    assert document.text == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize("language", SOURCES)
@pytest.mark.parametrize(
    "unit", ["a(b,c){d}", "function ", "x = (", "int a ", "pub ", "a b c d ", " ", "public static A<B> "]
)
def test_minified_and_repetitive_source_code_takes_no_longer(language, unit):
    read_code("/x/a", unit * (400_000 // len(unit)), language)
