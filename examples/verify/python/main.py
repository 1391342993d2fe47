"""Three ways to know who calls: by the key set, by /validate, by introspection (RFC 7662)."""

import os
from typing import Annotated

import httpx
import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

issuer = os.environ.get("ISSUER", "http://localhost:8000")
client = os.environ.get("OAUTH_CLIENT", "api:a-secret-of-the-api-0123456789").split(":", 1)
keys = jwt.PyJWKClient(f"{issuer}/.well-known/jwks.json")
http = httpx.AsyncClient(base_url=issuer, timeout=5)
app = FastAPI()
Bearer = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


def refused(code: str) -> HTTPException:
    return HTTPException(401, code, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def by_keys(bearer: Bearer) -> str:
    """No request for each call; the end of a session is noticed when the token expires."""
    token = bearer.credentials
    try:
        if jwt.get_unverified_header(token).get("typ") != "at+jwt":
            raise refused("token_invalid")
        key = keys.get_signing_key_from_jwt(token)
        claims = jwt.decode(token, key, algorithms=["ES256"], audience="latchkey", issuer=issuer)
    except jwt.ExpiredSignatureError:
        raise refused("token_expired") from None
    except jwt.PyJWKClientConnectionError:
        raise HTTPException(503) from None
    except (jwt.InvalidTokenError, jwt.PyJWKClientError):
        raise refused("token_invalid") from None
    return claims["sub"]


async def by_validate(bearer: Bearer) -> str:
    """A request for each call; the end of a session counts at once."""
    try:
        reply = await http.post("/api/v1/validate", headers={"Authorization": f"Bearer {bearer.credentials}"})
    except httpx.TransportError:
        raise HTTPException(503) from None
    if reply.status_code == 401:
        raise refused(reply.json()["code"])
    if reply.status_code != 200:
        raise HTTPException(503)
    return str(reply.json()["user_id"])


async def by_introspection(bearer: Bearer) -> str:
    """As /validate, by the standard; the API is a client of OAUTH_CLIENTS."""
    try:
        reply = await http.post("/oauth/introspect", data={"token": bearer.credentials}, auth=(client[0], client[1]))
    except httpx.TransportError:
        raise HTTPException(503) from None
    if reply.status_code != 200:
        raise HTTPException(503)
    state = reply.json()
    # A refresh token is active too, and nothing to call an API with.
    if not state["active"] or state["token_type"] != "Bearer":
        raise refused("token_invalid")
    return state["sub"]


@app.get("/whoami")
def whoami(user: Annotated[str, Depends(by_keys)]):
    return {"user": user}


@app.get("/by-validate")
def whoami_by_validate(user: Annotated[str, Depends(by_validate)]):
    return {"user": user}


@app.get("/by-introspection")
def whoami_by_introspection(user: Annotated[str, Depends(by_introspection)]):
    return {"user": user}
