"""What is old is forgotten, once a day."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bot.errors import StoreError
from bot.store import Store
from bot.uploads import Uploads

log = logging.getLogger(__name__)

_DAY = 24 * 3600.0  # seconds


async def keep_tidy(store: Store, uploads: Uploads, days: Callable[[], int]) -> None:
    """For ever."""
    while True:
        try:
            await uploads.remove(await store.forget_before(datetime.now(UTC) - timedelta(days())))
        except (StoreError, OSError) as error:
            log.warning("what is old stays for now: %s", error)
        await asyncio.sleep(_DAY)
