"""Signs the requests of the fuzzer in: an operator's token for the operators' routes, a directory's for those of SCIM, an
administrator's for the rest."""

import json
import os
import time
import urllib.error
import urllib.request
import uuid

import schemathesis

READY = json.load(open(os.environ["TENANTRY_READY"]))
URL = READY["url"]


def post(path, body, token=None, method="POST"):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = "Bearer " + token
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["data"]


def operator():
    return post("/api/v1/admin/auth/login", READY["operator"])["accessToken"]


def administrator():
    """Of a tenant of its own: requests lock accounts, demand second factors, end sessions."""
    # An operator's requests leave no room for tenants, or no connections.
    room = {"draining": False, "maxTenants": None, "connectionBudget": None}
    post("/api/v1/admin/clusters/local", room, KEPT["operator"].get(), "PATCH")
    slug = "fuzz-" + uuid.uuid4().hex[:12]
    admin = {"email": "admin@%s.test" % slug, "password": "an uncommon sentence of five words"}
    return post("/api/v1/tenants", {"name": slug, "slug": slug, "admin": admin})["accessToken"]


def directory():
    return post("/api/v1/scim-tokens", {"name": "fuzz"}, administrator())["token"]


def standing(path, token):
    request = urllib.request.Request(URL + path, headers={"Authorization": "Bearer " + token})
    try:
        urllib.request.urlopen(request, timeout=30).close()
        return True
    except urllib.error.HTTPError as refused:
        return refused.code not in (401, 403)


class Kept:
    """A token that is kept as long as it is good: requests end sessions."""

    def __init__(self, login, probe):
        self.login, self.probe, self.token = login, probe, None

    def get(self):
        if self.token is None or not standing(self.probe, self.token):
            self.token = self.login()
        return self.token


KEPT = {
    "operator": Kept(operator, "/api/v1/admin/clusters"),
    "administrator": Kept(administrator, "/api/v1/users/me"),
    "directory": Kept(directory, "/scim/v2/Schemas"),
}


@schemathesis.auth(refresh_interval=None, cache_by_key=lambda case, context: str(time.monotonic()))
class Bearer:
    def get(self, case, context):
        for prefix, who in (("/api/v1/admin/", "operator"), ("/scim/", "directory")):
            if case.path.startswith(prefix):
                return KEPT[who].get()
        return KEPT["administrator"].get()

    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers["Authorization"] = "Bearer " + data
