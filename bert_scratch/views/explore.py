"""The command `explore`: a local page that shows what models make of typed text."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_scratch.config import InputError, check_range
from bert_scratch.extras import import_extra
from bert_scratch.inference.whole_model import load_whole_model
from bert_scratch.model.compute_settings import ComputeSettings
from bert_scratch.model.devices import take_device
from bert_scratch.views.explore_app import HOST, explore_app
from bert_scratch.views.explorer import Explorer, NamedModel, check_same_words


@dataclass(frozen=True, kw_only=True)
class ExploreConfig(ComputeSettings):
    """Open a page on this machine that shows, as you type, what happens inside a model."""

    model: tuple[str, ...]
    """A model folder, a checkpoint or a hub id; or two of one run, to see them side by side."""
    port: int = 0
    """Port of the page on 127.0.0.1; 0 takes a free one."""
    attribution_steps: int = 4
    """Steps of integrated gradients; more are more exact and slower."""

    def __post_init__(self) -> None:
        """Check what does not depend on the models.

        Raises:
            InputError: naming the flag.
        """
        super().__post_init__()
        if not 1 <= len(self.model) <= 2:
            raise InputError(f"--model takes one or two models; got {len(self.model)}")
        check_range("--port", self.port, at_least=0, at_most=65535)
        check_range("--attribution-steps", self.attribution_steps, at_least=1, at_most=256)


def run_explore(config: ExploreConfig) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Raises:
        InputError: if Flask is missing, a model cannot be loaded, or the port is taken.
    """
    serving = import_extra("werkzeug.serving", "`explore`", "explore")
    device = take_device(config)
    models = []
    for name, path in zip(_names(config.model), config.model, strict=True):
        model, tokenizer = load_whole_model(path)
        models.append(NamedModel(name=name, model=model.to(device).eval(), tokenizer=tokenizer))
    check_same_words(models)
    explorer = Explorer(models, attribution_steps=config.attribution_steps)
    secret = secrets.token_urlsafe(16)

    class Quiet(serving.WSGIRequestHandler):  # type: ignore[misc,name-defined]
        """Logs no requests, because the log lines would contain the secret."""

        def log_request(self, *_values: Any) -> None:
            pass

    with _listening(config.port) as listener:
        port = listener.getsockname()[1]
        server = serving.make_server(
            HOST,
            port,
            explore_app(explorer, secret),
            threaded=True,
            request_handler=Quiet,
            fd=listener.fileno(),
        )
        print(f"open       http://{HOST}:{port}/{secret}/", flush=True)
        print("           only this machine reaches it, with this address; Ctrl-C ends it")
        server.serve_forever()  # returns at Ctrl-C
    explorer.finish()
    print("ended")


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise InputError(
            f"--port {port}: {error.strerror or error}; give another one, or 0 for a free one"
        ) from error


def _names(paths: tuple[str, ...]) -> list[str]:
    """Return the folders' names, or the whole paths if names are equal."""
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else list(paths)
