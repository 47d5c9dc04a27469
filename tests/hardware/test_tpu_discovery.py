"""Finding a TPU: recognised on its own VM, asked after by name, and never waited for without end."""

import contextlib
import http.server
import socket
import sys
import threading
from types import SimpleNamespace

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import local_tpu, tpu_discovery
from tests.support.tpu_machine import machine


@pytest.mark.parametrize(
    ("flag", "can_use_tpu", "environment", "chosen", "told"),
    [
        ("", True, {}, "local", "using the TPU (TPU v5e on the PCI bus); --tpu=none does not"),
        ("none", True, {}, "", ""),
        ("local", False, {}, "local", ""),
        ("pod", True, {"TPU_NAME": "other"}, "pod", ""),
        ("", True, {"TPU_NAME": "pod"}, "pod", "using the TPU (TPU_NAME=pod); --tpu=none does not"),
        ("", True, {"TPU_NAME": "local"}, "local", "using the TPU (TPU_NAME=local); --tpu=none does not"),
    ],
)
def test_on_a_tpu_vm_the_tpu_is_used_unless_refused(tmp_path, flag, can_use_tpu, environment, chosen, told):
    assert tpu_discovery.choose(flag, can_use_tpu, environment, machine(tmp_path, "0x0063")) == (chosen, told)


@pytest.mark.parametrize(
    ("plain", "told"),
    [("tensorflow 2.21.0", ""), ("", "note: the TPU (TPU v5e on the PCI bus) is not used by this TensorFlow")],
)
def test_a_tpu_that_cannot_be_used_is_not_passed_over_in_silence(tmp_path, monkeypatch, plain, told):
    """Of plain TensorFlow it is said before it starts."""
    monkeypatch.setattr(local_tpu, "plain_tensorflow", lambda: plain)
    assert tpu_discovery.choose("", False, {}, machine(tmp_path, "0x0063")) == ("", told)


@pytest.mark.parametrize("can_use_tpu", [True, False])
def test_elsewhere_nothing_is_said(tmp_path, can_use_tpu):
    assert tpu_discovery.choose("", can_use_tpu, {}, str(tmp_path)) == ("", "")


@contextlib.contextmanager
def listening():
    """A port of this machine that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def nobody():
    """A port of this machine at which nothing listens."""
    with listening() as port:
        pass
    return port


class Client:
    """What cloud-tpu-client says of a TPU."""

    def __init__(self, answer, endpoints):
        self.answer, self.endpoints, self.asked = answer, endpoints, []

    def __call__(self, tpu, zone, project):
        self.asked.append((tpu, zone, project))
        return self

    def state(self):
        return self.answer[0]() if callable(self.answer[0]) else self.answer[0]

    def health(self):
        return self.answer[1]

    def network_endpoints(self):
        assert self.answer[0] == "READY"  # it raises otherwise
        return self.endpoints

    def wait_for_healthy(self):
        raise AssertionError("waits for 20 minutes")


@pytest.fixture
def cloud(monkeypatch):
    """Installs a cloud_tpu_client whose TPU is as asked for."""

    def install(state, health, endpoints=()):
        client = Client((state, health), [{"ipAddress": host, "port": str(port)} for host, port in endpoints])
        module = SimpleNamespace(Client=client, __spec__=SimpleNamespace(name="cloud_tpu_client"))
        monkeypatch.setitem(sys.modules, "cloud_tpu_client", module)
        return client

    return install


@pytest.mark.parametrize("health", ["HEALTHY", None, "HEALTH_UNSPECIFIED"])
def test_a_ready_tpu_is_looked_up_by_name(cloud, health):
    with listening() as port:
        client = cloud("READY", health, [("127.0.0.1", port)])
        assert tpu_discovery.require_reachable("pod", "us-central1-a", "photos") == ("us-central1-a", "photos")
    assert client.asked == [("pod", "us-central1-a", "photos")]


@pytest.mark.parametrize(
    ("state", "health", "remedy"),
    [
        ("CREATING", None, "Wait until it is READY: gcloud compute tpus tpu-vm describe pod --zone=z --project=p"),
        ("REPAIRING", "HEALTHY", "Wait until it is READY: "),
        ("STOPPED", None, "Start it: gcloud compute tpus tpu-vm start pod --zone=z --project=p"),
        ("PREEMPTED", None, "It will not come back: gcloud compute tpus tpu-vm delete pod "),
        ("TERMINATED", None, "It will not come back: "),
        ("READY", "UNHEALTHY_MAINTENANCE", "Wait until it is READY: "),
        ("READY", "TIMEOUT", "Restart it: gcloud compute tpus tpu-vm stop pod --zone=z --project=p, then "),
        ("READY", "UNHEALTHY_TENSORFLOW", "Restart it: "),
        (None, None, "Wait until it is READY: "),
    ],
)
def test_a_tpu_that_is_not_up_comes_with_what_to_do(cloud, state, health, remedy):
    cloud(state, health)
    with pytest.raises(UserError) as error:
        tpu_discovery.require_reachable("pod", "z", "p")
    start = f"--tpu=pod in z of p: state {state}, health {health or 'unknown'}. "
    assert str(error.value).startswith(start + remedy)


def test_a_tpu_that_cannot_be_looked_up(cloud):
    def fail():
        raise ValueError("Could not lookup TPU metadata from name 'pod'.")

    cloud(fail, None)
    with pytest.raises(
        UserError, match=r"^--tpu=pod in z of p: cannot be looked up: Could not lookup .*\nIs there such"
    ):
        tpu_discovery.require_reachable("pod", "z", "p")


def test_an_interface_that_does_not_answer_is_given_up(cloud, monkeypatch):
    ended = threading.Event()
    cloud(lambda: ended.wait(60) and None, None)
    monkeypatch.setattr(tpu_discovery, "_API_SECONDS", 0.2)
    with pytest.raises(UserError, match=r"^--tpu=pod in z of p: the Cloud TPU API did not answer within 0 s\.$"):
        tpu_discovery.require_reachable("pod", "z", "p")
    ended.set()


def test_without_the_client(monkeypatch):
    monkeypatch.setattr(tpu_discovery.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^--tpu=pod: .* needs cloud-tpu-client: .* pip install 'cloud-tpu-client>="):
        tpu_discovery.require_reachable("pod", "z", "p")


@contextlib.contextmanager
def metadata_server(monkeypatch, answers):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.headers["Metadata-Flavor"] == "Google"
            body = answers[self.path.removeprefix("/computeMetadata/v1/")].encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


def test_on_google_cloud_zone_and_project_are_this_machines(cloud, monkeypatch):
    answers = {"project/project-id": "photos", "instance/zone": "projects/123/zones/europe-west4-b"}
    with listening() as port, metadata_server(monkeypatch, answers):
        cloud("READY", "HEALTHY", [("127.0.0.1", port)])
        assert tpu_discovery.require_reachable("pod", "", "") == ("europe-west4-b", "photos")
        assert tpu_discovery.require_reachable("pod", "", "mine") == ("europe-west4-b", "mine")


def test_elsewhere_they_are_asked_for(cloud, monkeypatch, nobody):
    cloud("READY", "HEALTHY")
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{nobody}")
    with pytest.raises(UserError, match=r"^--gcp_project is missing: --tpu=pod is looked up by name"):
        tpu_discovery.require_reachable("pod", "z", "")
    with pytest.raises(UserError, match=r"^--tpu_zone is missing: "):
        tpu_discovery.require_reachable("pod", "", "p")


def test_a_metadata_server_that_is_silent_is_given_up(cloud, monkeypatch):
    cloud("READY", "HEALTHY")
    monkeypatch.setattr(tpu_discovery, "_METADATA_SECONDS", 0.2)
    with listening() as port:  # accepts, and never answers
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{port}")
        with pytest.raises(UserError, match=r"^--gcp_project is missing: "):
            tpu_discovery.require_reachable("pod", "z", "")


@pytest.mark.parametrize(
    ("flag", "addresses"),
    [
        ("grpc://10.0.0.2:8470", [("10.0.0.2", 8470)]),
        ("grpc://10.0.0.2:8470,10.0.0.3:8470", [("10.0.0.2", 8470), ("10.0.0.3", 8470)]),
        ("grpc://10.0.0.2:8470,grpc://pod-1:8470", [("10.0.0.2", 8470), ("pod-1", 8470)]),
    ],
)
def test_addresses(flag, addresses):
    assert tpu_discovery.grpc_addresses(flag) == addresses


@pytest.mark.parametrize("flag", ["grpc://", "grpc://10.0.0.2", "grpc://10.0.0.2:port", "grpc://10.0.0.2:8470,"])
def test_addresses_that_are_none(flag):
    with pytest.raises(UserError, match=rf"^--tpu={flag}: '.*' is no address\. Such is --tpu=grpc://10\.0\.0\.2:8470$"):
        tpu_discovery.grpc_addresses(flag)


def test_an_address_is_tried_and_no_interface_asked(cloud, nobody):
    client = cloud("READY", "HEALTHY")
    with listening() as port:
        assert tpu_discovery.require_reachable(f"grpc://127.0.0.1:{port}", "", "") == ("", "")
    with pytest.raises(
        UserError, match=rf"^--tpu=grpc://127\.0\.0\.1:{nobody}: nothing answers at 127\.0\.0\.1:{nobody} "
    ):
        tpu_discovery.require_reachable(f"grpc://127.0.0.1:{nobody}", "", "")
    assert client.asked == []


def test_the_local_tpu_is_not_asked_after(cloud):
    client = cloud("STOPPED", None)
    assert tpu_discovery.require_reachable("local", "", "") == ("", "")
    assert client.asked == []
