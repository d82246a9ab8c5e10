"""Slack's own Python library against the stand-in: arguments API_URL BOT_TOKEN APP_TOKEN CORPUS.

Shows that the stand-in's answers and payloads are what Slack's library understands, and that the library's own checks
pass the mock-ups. Ends when the modal it opens has been submitted; prints what it saw as lines of JSON.
"""

import json
import pathlib
import sys
import threading

from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web import WebClient

api, bot_token, app_token, corpus = sys.argv[1:]
web = WebClient(token=bot_token, base_url=api + "/", timeout=30)
finished = threading.Event()


def say(**what):
    print(json.dumps(what), flush=True)


def mock_ups():
    """Every mock-up through the library's models, with their checks, and back."""
    for path in sorted(pathlib.Path(corpus).glob("*.json")):
        content = json.loads(path.read_text())
        if content.get("type") in ("modal", "home"):
            parsed = View(**content)
            parsed.validate_json()
            say(mock_up=path.name, same=parsed.to_dict() == content)
        else:
            blocks = Block.parse_all(content.get("blocks", []))
            for block in blocks:
                block.validate_json()
            say(mock_up=path.name, same=[block.to_dict() for block in blocks] == content.get("blocks", []))


def calls():
    """Every method the gate needs, through the library."""
    say(auth=web.auth_test()["user_id"])
    pending = json.loads(pathlib.Path(corpus, "pending.json").read_text())
    posted = web.chat_postMessage(channel="C0APPR", **pending)
    say(posted=posted["message"]["bot_id"])
    web.chat_postMessage(channel="C0APPR", thread_ts=posted["ts"], text="a reminder")
    web.chat_postEphemeral(channel="C0APPR", user="U0OUT", text="not yours to decide")
    say(user=web.users_info(user="U0APP1")["user"]["profile"]["email"])
    say(found=web.users_lookupByEmail(email="rita@example.com")["user"]["id"])
    say(groups=[group["handle"] for group in web.usergroups_list(include_users=True)["usergroups"]])
    say(members=web.usergroups_users_list(usergroup="S0DBA")["users"])
    web.views_publish(user_id="U0APP1", view=json.loads(pathlib.Path(corpus, "app_home.json").read_text()))
    uploaded = web.files_upload_v2(
        filename="statement.sql", content="SELECT 1;", title="7K3F", channel="C0APPR", thread_ts=posted["ts"]
    )
    say(file=uploaded["files"][0]["title"])
    try:
        web.chat_postMessage(channel="C0APPR", text="x", blocks=[{"type": "divider", "colour": "red"}])
    except SlackApiError as error:
        say(refused=error.response["error"], where=error.response["response_metadata"]["messages"])


def listen(client, request):
    """Opens the reject modal at a click, and ends at its submission."""
    kind = request.payload.get("type", request.type)
    if kind == "block_actions":
        client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
        view = json.loads(pathlib.Path(corpus, "reject_modal.json").read_text())
        web.views_open(trigger_id=request.payload["trigger_id"], view=view)
    elif kind == "slash_commands":
        client.send_socket_mode_response(
            SocketModeResponse(envelope_id=request.envelope_id, payload={"text": "nothing waits"})
        )
    elif kind == "view_submission":
        client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
        say(reason=request.payload["view"]["state"]["values"]["why"]["text"]["value"])
        finished.set()
    else:
        client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))


mock_ups()
calls()
sockets = SocketModeClient(app_token=app_token, web_client=web)
sockets.socket_mode_request_listeners.append(listen)
sockets.connect()
ended = finished.wait(60)
sockets.close()
sys.exit(0 if ended else 1)
