"""`/docs`: every operation on one page, under a policy that lets nothing else in."""

import re
from html.parser import HTMLParser

import aiohttp
import pytest

from gateway.api.reference_page import render
from tests.support.api import ApiHouse

pytestmark = pytest.mark.postgres

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """What stands on a page; an element that is not closed in its place is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


async def fetch(house: ApiHouse, path: str) -> tuple[aiohttp.ClientResponse, str]:
    async with aiohttp.ClientSession() as session, session.get(house.url + path) as answer:
        return answer, await answer.text()


async def test_the_page_names_every_operation_and_model_of_the_document(house: ApiHouse) -> None:
    answer, text = await fetch(house, "/docs")
    assert (answer.status, answer.content_type) == (200, "text/html")
    page = Page(text)
    reply, _ = await fetch(house, "/openapi.json")
    assert reply.status == 200
    async with (
        aiohttp.ClientSession() as session,
        session.get(house.url + "/openapi.json") as found,
    ):
        document = await found.json()
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"].split("`")[0].split("'")[0].split('"')[0] in text
            assert f"<code>{path}</code>" in text, (method, path)
    for name in document["components"]["schemas"]:
        assert "model-" + re.sub(r"[^A-Za-z0-9]", "-", name) in ids


async def test_every_link_of_the_page_leads_somewhere_in_this_house(house: ApiHouse) -> None:
    _, text = await fetch(house, "/docs")
    page = Page(text)
    anchors = {f"#{value}" for value in page.values("id")}
    links = set(page.values("href"))
    assert links - anchors == {"/docs.css", "/openapi.json"}
    for path in ("/docs.css", "/openapi.json"):
        answer, _ = await fetch(house, path)
        assert answer.status == 200


async def test_nothing_runs_and_nothing_is_loaded_from_elsewhere(house: ApiHouse) -> None:
    for path in ("/docs", "/docs.css"):
        answer, text = await fetch(house, path)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'self';")
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r"https?:|url\(|@import|javascript:", text)
    page = Page((await fetch(house, "/docs"))[1])
    assert page.tags & {"script", "style", "iframe", "img", "form", "object"} == set()
    assert [name for name, _ in page.attributes if name == "style" or name.startswith("on")] == []


def _shown_summary(summary: str) -> str:
    return render(
        {
            "info": {"title": "", "version": "", "description": summary},
            "paths": {},
            "webhooks": {},
            "components": {
                "schemas": {},
                "securitySchemes": {"httpMessageSignature": {"description": ""}},
            },
        }
    )


def test_text_of_the_document_is_never_markup() -> None:
    """Also where it stands in an attribute."""
    evil = "\"><script>alert('x')</script>&"
    text = render(
        {
            "info": {"title": evil, "version": evil, "description": evil},
            "paths": {
                f"/{evil}": {
                    "get": {
                        "operationId": evil,
                        "summary": evil,
                        "tags": [evil],
                        "x-scopes": [evil],
                        "parameters": [
                            {"name": evil, "in": evil, "schema": {"type": evil, "pattern": evil}}
                        ],
                        "responses": {
                            evil: {
                                "description": evil,
                                "content": {evil: {"schema": {"$ref": evil}}},
                            }
                        },
                    }
                }
            },
            "webhooks": {},
            "components": {
                "schemas": {evil: {"description": evil, "properties": {evil: {"enum": [evil]}}}},
                "securitySchemes": {"httpMessageSignature": {"description": evil}},
            },
        }
    )
    assert "<script" not in text
    assert "<code>done</code>" in _shown_summary("until it is `done`")
    assert Page(text).tags & {"script"} == set()
