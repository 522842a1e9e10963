"""Serves fakesnow on loopback as a Node client needs it: python fakesnow_server.py PORT."""

import base64
import json
import sys

import duckdb
import fakesnow.copy_into as copy_into
import fakesnow.cursor
import fakesnow.server
import pyarrow
import uvicorn
from snowflake.connector.errors import ProgrammingError
from sqlglot import exp
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import Response

server = sys.modules["fakesnow.server"]  # fakesnow.server itself is a function
MOST_RECORD = 200_000_000


def read_lines(self, url):
    options = [self.make_eq("format", "newline_delimited"), self.make_eq("maximum_object_size", MOST_RECORD)]
    return exp.func("read_json_objects", self.file_literal(url), *options)


def whole_value(select):
    """Lets COPY select $1 itself, not only its fields; as VARCHAR a JSON string is what it holds."""
    for parameter in list(select.find_all(exp.Parameter)):
        cast = isinstance(parameter.parent, exp.Cast)
        text = exp.func("json_extract_string", exp.column("json"), exp.Literal.string("$"))
        (parameter.parent if cast else parameter).replace(text if cast else exp.column("json"))
    return select


def copy(*arguments, **named):
    """Says as Snowflake does what is no JSON."""
    try:
        return copy_into.copy_into(*arguments, **named)
    except duckdb.InvalidInputException as error:
        raise ProgrammingError(msg=f"Error parsing JSON: {error}", errno=100069, sqlstate="22P02") from None


def as_text(value):
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


class JsonRows(BaseHTTPMiddleware):
    """Node's client reads rows as JSON, and wants to be told how many there are."""

    async def dispatch(self, request, call_next):
        answer = await call_next(request)
        body = b"".join([part async for part in answer.body_iterator])
        if request.url.path == "/queries/v1/query-request" and answer.status_code == 200:
            said = json.loads(body)
            data = said.get("data") or {}
            if data.get("queryResultFormat") == "arrow":
                packed = data.pop("rowsetBase64")
                rows = pyarrow.ipc.open_stream(base64.b64decode(packed)).read_all().to_pylist() if packed else []
                data["queryResultFormat"] = "json"
                data["rowset"] = [[as_text(value) for value in row.values()] for row in rows]
            if "rowset" in data:
                data["returned"] = len(data["rowset"])
            body = json.dumps(said).encode()
        headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
        return Response(body, answer.status_code, headers)


class Logins:
    """fakesnow lets everyone in, and keeps the transactions of clients that died; here one password is wrong, and of
    the user `killed` they end when it comes again, which takes Snowflake some hours."""

    def __init__(self, app):
        self.app = app
        self.killed = set()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or not scope["path"].startswith("/session/v1/login-request"):
            return await self.app(scope, receive, send)
        message = await receive()
        body = message.get("body", b"")
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        if json.loads(body)["data"].get("PASSWORD", "").startswith("wrong"):
            refusal = {"data": None, "code": "390100", "message": "Incorrect username or password.", "success": False}
            return await Response(json.dumps(refusal), media_type="application/json")(scope, receive, send)

        async def again():
            return {"type": "http.request", "body": body, "more_body": False}

        if json.loads(body)["data"].get("LOGIN_NAME") != "killed":
            return await self.app(scope, again, send)
        for token in self.killed & set(server.sessions):
            server.sessions.pop(token).close()
        before = set(server.sessions)
        await self.app(scope, again, send)
        self.killed = set(server.sessions) - before


connect = server.shared_fs.connect
ignored = ["^ALTER SESSION SET LOCK_TIMEOUT"]
server.shared_fs.connect = lambda *names, **options: connect(*names, **{**options, "nop_regexes": ignored})
copy_into.ReadJSON.read_expression = read_lines
copy_into._strip_json_extract = whole_value
sys.modules["fakesnow.cursor"].copy_into = copy
server.gcs_stage_info = lambda request, expression, staged: staged["stageInfo"]  # a stage on this disk
server.app.add_middleware(JsonRows)
uvicorn.run(Logins(server.app), host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
