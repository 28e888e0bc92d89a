# SPDX-License-Identifier: MIT
import asyncio


async def waiter(event):
    print("waiting for it ...")
    await event.wait()
    print("... got it!")


async def main():
    event = asyncio.Event()
    task = asyncio.create_task(waiter(event))

    await asyncio.sleep(0.001)
    print("set")
    event.set()
    await task


asyncio.run(main())
