"""Lists of payment intents, with Stripe's cursors and filters."""

from __future__ import annotations

from typing import Any

from service.sandbox import parameters
from service.sandbox.store import Page, Store
from service.sandbox.wire import Params, invalid

_MOST_PER_PAGE = 100
_DEFAULT_PER_PAGE = 10


def list_intents(store: Store, params: Params) -> dict[str, Any]:
    """Read a page of intents, newest first.

    Raises:
        WireError: A cursor or a filter is wrong.
    """
    limit = parameters.integer(params, "limit")
    if limit is not None and not 1 <= limit <= _MOST_PER_PAGE:
        raise invalid(f"Invalid limit: must be between 1 and {_MOST_PER_PAGE}", param="limit")
    page = Page(
        limit=limit or _DEFAULT_PER_PAGE,
        after=_position(store, params, "starting_after"),
        before=_position(store, params, "ending_before"),
        customer=parameters.text(params, "customer"),
        **_created(params),
    )
    data, has_more = store.intents(page)
    return {"object": "list", "data": data, "has_more": has_more, "url": "/v1/payment_intents"}


def _position(store: Store, params: Params, name: str) -> int | None:
    intent_id = parameters.text(params, name)
    if intent_id is None:
        return None
    position = store.position(intent_id)
    if position is None:
        raise invalid(f"No such payment_intent: '{intent_id}'", param=name, code="resource_missing")
    return position


def _created(params: Params) -> dict[str, int]:
    """Turn `created=T`, or `created[gte]=T` and its like, into inclusive bounds."""
    given = params.get("created")
    if given is None:
        return {}
    bounds: Params = {"gte": given, "lte": given} if isinstance(given, str) else given
    least, most = [0], [2**62]
    for name in bounds:
        label = f"created[{name}]"
        value = parameters.integer({label: bounds[name]}, label)
        if value is None or name not in {"gt", "gte", "lt", "lte"}:
            raise invalid(f"Invalid {label}", param=label)
        if name.startswith("g"):
            least.append(value + (name == "gt"))
        else:
            most.append(value - (name == "lt"))
    return {"created_at_least": max(least), "created_at_most": min(most)}
