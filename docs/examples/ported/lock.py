# SPDX-License-Identifier: MIT
import asyncio


async def user(name, lock):
    async with lock:
        print(name, "has the lock")
        await asyncio.sleep(0)
        print(name, "gives it back")


async def main():
    lock = asyncio.Lock()
    await asyncio.gather(*(user(name, lock) for name in ("first", "second", "third")))
    print("locked:", lock.locked())


asyncio.run(main())
