"""The Django template tags."""

from __future__ import annotations

from typing import Any

from django.template import Library, Node, NodeList, TemplateSyntaxError
from django.template.base import FilterExpression, Parser, TextNode, Token, Variable, kwarg_re
from django.template.loader_tags import BlockNode

from cachalot.api import get_last_invalidation
from cachalot.core.blocks.keys import digest_of
from cachalot.fragments import KEYWORDS, Fragment

register = Library()

# {% get_last_invalidation 'auth.User' cache_alias='default' as last_invalidation %}: the function
# itself, with all its arguments.
register.simple_tag(get_last_invalidation)


class CachedNode(Node):
    """``{% cached %}`` and what it encloses."""

    child_nodelists = ("nodelist",)

    def __init__(
        self,
        nodelist: NodeList,
        name: str,
        vary: list[FilterExpression],
        keywords: dict[str, FilterExpression],
    ) -> None:
        self.nodelist = nodelist
        self._name = name
        self._vary = vary
        self._keywords = keywords
        self._source = digest_of(b"source", *map(_source_of, nodelist.get_nodes_by_type(Node)))
        #: Whether templates that extend this one may put something else into it.
        self._is_open = bool(nodelist.get_nodes_by_type(BlockNode))

    def render(self, context: Any) -> str:
        """Return the fragment that is stored, else render it."""
        request = getattr(context, "request", None) or context.get("request")
        root = context.template if self._is_open else None
        fragment = Fragment(
            self._name,
            repr((self._source, context.autoescape, root and (root.name, str(root.source)))).encode(
                "utf-8", "surrogatepass"
            ),
            [(str(argument), self._resolve(argument, context)) for argument in self._vary],
            request=request,
            **{name: value.resolve(context) for name, value in self._keywords.items()},
        )
        return fragment.render(lambda: self.nodelist.render(context))

    def _resolve(self, argument: FilterExpression, context: Any) -> object:
        variable: Any = argument.var
        lookups = variable.lookups if isinstance(variable, Variable) else None
        if lookups and lookups[0] not in context:
            raise TemplateSyntaxError(
                f"{{% cached {self._name!r} %}} is to vary on {argument}, and there is no "
                f"{lookups[0]!r} in the context: all would be given the same."
            )
        return argument.resolve(context)


def _source_of(node: Node) -> bytes:
    text = node.s if isinstance(node, TextNode) else ""
    contents = "" if node.token is None else node.token.contents
    return f"{type(node).__qualname__} {contents} {text}".encode("utf-8", "surrogatepass")


@register.tag
def cached(parser: Parser, token: Token) -> CachedNode:
    """Keep what is enclosed until one of the tables is written that rendering it has read.

    ``{% cached "name" VARY… timeout=… cache_alias=… %}…{% endcached %}``: the name is in quotes,
    each list of further arguments has a fragment of its own, told apart as the arguments of
    ``cached()`` are; ``timeout`` and ``cache_alias`` mean what they mean there.
    """
    _, *bits = token.split_contents()
    if not bits or bits[0][:1] not in {'"', "'"} or bits[0][-1] != bits[0][0]:
        found = repr(bits[0]) if bits else "nothing"
        raise TemplateSyntaxError(f"{{% cached %}} begins with a name in quotes, not with {found}.")
    vary: list[FilterExpression] = []
    keywords: dict[str, FilterExpression] = {}
    for bit in bits[1:]:
        match = kwarg_re.match(bit)
        name = match[1] if match else None
        if not name:
            vary.append(parser.compile_filter(bit))
        elif name not in KEYWORDS:
            raise TemplateSyntaxError(
                f"{{% cached %}} takes no keyword {name!r}; allowed are {', '.join(KEYWORDS)}."
            )
        elif name in keywords:
            raise TemplateSyntaxError(f"{{% cached %}} got {name!r} twice.")
        else:
            assert match is not None
            keywords[name] = parser.compile_filter(match[2])
    nodelist = parser.parse(("endcached",))
    parser.delete_first_token()
    return CachedNode(nodelist, bits[0][1:-1], vary, keywords)
