# SPDX-License-Identifier: MIT
import asyncio


async def save(go):
    await go.wait()
    print("saved")


async def client(saving):
    try:
        await asyncio.shield(saving)
    except asyncio.CancelledError:
        print("the client has gone")
        raise


async def main():
    go = asyncio.Event()
    saving = asyncio.create_task(save(go))
    task = asyncio.create_task(client(saving))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    print("saving is cancelled:", saving.cancelled())
    go.set()
    await saving


asyncio.run(main())
