"""A Django application beside `herenow serve`, in one file: tokens, the HTTP API, and webhooks.

    python app.py runserver 127.0.0.1:8000

`docs/guides/django.md` goes through it. What it is told by the environment:
HERENOW_JWT_SECRET and HERENOW_WEBHOOK_SECRET, which it shares with the server; PRESENCE_API, where the
server's API is (http://127.0.0.1:4000), and PRESENCE_API_KEY, the secret of a key for it.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from urllib.parse import quote
from urllib.request import Request, urlopen

import jwt
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse, HttpResponseForbidden, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

TOKEN_SECONDS = 300
CLOCK_SECONDS = 300

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DEBUG=True,
    ROOT_URLCONF=__name__,
    # Sessions live in a signed cookie, so that this example needs no database.
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "only-for-this-example"),
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
)

# What the webhooks told. An application of yours writes it to its database.
last_seen = {}


@csrf_exempt
@require_POST
def login(request):
    """Your own login goes here: it decides who somebody is."""
    request.session["user"] = request.POST["user"]
    return JsonResponse({"user": request.session["user"]})


@require_GET
def token(request):
    """What the page's socket presents: who the user is, and where they may go."""
    user = request.session.get("user")
    if user is None:
        return HttpResponseForbidden("log in first")
    claims = {"sub": user, "exp": int(time.time()) + TOKEN_SECONDS, "herenow": {"topics": ["room:*"]}}
    signed = jwt.encode(claims, os.environ["HERENOW_JWT_SECRET"], algorithm="HS256")
    return JsonResponse({"token": signed})


@require_GET
def who(request, room):
    """Asks the server: who is in a room?"""
    api = os.environ.get("PRESENCE_API", "http://127.0.0.1:4000")
    url = f"{api}/api/topics/{quote(f'room:{room}', safe='')}/presences"
    asked = Request(url, headers={"x-api-key": os.environ["PRESENCE_API_KEY"]})
    with urlopen(asked, timeout=5) as answer:
        page = json.load(answer)
    return JsonResponse({"here": [presence["key"] for presence in page["presences"]]})


@csrf_exempt
@require_POST
def webhook(request):
    """Hears from the server who came and went."""
    if not is_genuine(request.headers, request.body):
        return HttpResponse(status=401)
    for event in json.loads(request.body)["events"]:
        if event["event"] == "left" and event["last"]:
            last_seen[event["key"]] = event["at"]
        elif event["event"] == "joined":
            last_seen[event["key"]] = "now"
    return HttpResponse(status=204)


def is_genuine(headers, body):
    """Whether this comes from who has the secret, and is no recording."""
    sent_at = headers.get("webhook-timestamp", "0")
    if not sent_at.isdigit() or abs(time.time() - int(sent_at)) > CLOCK_SECONDS:
        return False
    signed = f"{headers.get('webhook-id')}.{sent_at}.".encode() + body
    mac = hmac.new(os.environ["HERENOW_WEBHOOK_SECRET"].encode(), signed, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(mac).decode()
    return hmac.compare_digest(expected, headers.get("webhook-signature", ""))


@require_GET
def seen(request, user):
    """When a user was last here: "now", a time, or null."""
    return JsonResponse({"user": user, "seen": last_seen.get(user)})


urlpatterns = [
    path("login", login),
    path("token", token),
    path("who/<str:room>", who),
    path("herenow", webhook),
    path("seen/<str:user>", seen),
]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
