"""Which store a search has: embedded, of many machines, in a database or a folder."""

from pathlib import Path

from common import extras
from common.errors import UserError
from search.engine.folder_store import FolderStore
from search.engine.store import Store

EMBEDDED = "embedded"
FOLDER = "folder"


def check(storage: str) -> None:
    """Raise UserError unless --storage is one that there is, and can be used."""
    if storage == FOLDER:
        return
    extras.require("optuna", "sqlalchemy", task="a search of blocks")
    if storage == EMBEDDED:
        return
    if "://" not in storage:
        raise UserError(
            f"--storage={storage!r} is not known: write embedded, folder, or "
            "postgresql://user@host:port/database"
        )
    extras.require("psycopg", task="a search in a database")
    from search.engine.engine_optuna import check_url

    check_url(storage)


def open_store(storage: str, folder: Path, study: str) -> Store:
    """Open a search's store.

    Args:
      storage: "embedded", "folder", or a database's URL.
      folder: of the search.
      study: its name in a database.

    Raises:
      UserError: it cannot be opened.
      Restart: it has not answered for two minutes.
    """
    if storage == FOLDER:
        return FolderStore(folder)
    from search.engine import engine_optuna

    if storage == EMBEDDED:
        return engine_optuna.journal_store(folder)
    return engine_optuna.database_store(storage, study)
