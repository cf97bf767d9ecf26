"""The media type of request bodies."""

from fastapi import Request

from chassis import errors


class UnsupportedMediaType(errors.Refusal):
    """Send the body as application/json."""

    code = "unsupported_media_type"
    status = 415


async def require_json(request: Request) -> None:
    """Refuse a POST whose body is not declared as JSON. Raises UnsupportedMediaType."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and media_type != "application/json":
        raise UnsupportedMediaType
