"""The play in memory."""

from demo.acting import Play
from demo.calendar import Calendar
from demo.cast import make_cast
from demo.model import Model
from demo.picture import digest, of_model
from demo.scenario import perform
from deployment.catalog import load_catalog
from schemas.forms import time_ms

SOME_DAY = "2026-11-22T15:00:00+08:00"


async def rehearse(moment: str = SOME_DAY, model: type[Model] = Model) -> tuple[Play, Model]:
    """The play as it is when it begins at `moment`."""
    cast = make_cast(Calendar(time_ms(moment)))
    client = model(load_catalog(), cast.code_keys, cast.calendar.now_ms)
    play = Play(client, cast)
    await perform(play)
    return play, client


def digest_of(play: Play, model: Model) -> str:
    return digest(play.cast, of_model(model, play.played.values(), play.cast), model.history())
