# SPDX-License-Identifier: MIT
import asyncio


async def say(what):
    await asyncio.sleep(0)
    print(what)
    return len(what)


async def fails():
    await asyncio.sleep(0)
    raise OSError("no luck")


async def sleeps():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print("cancelled, since a sibling failed")
        raise


async def main():
    async with asyncio.TaskGroup() as tg:
        task1 = tg.create_task(say("hello"))
        task2 = tg.create_task(say("world!"))
    print("Both tasks have completed now:", task1.result(), task2.result())

    try:
        async with asyncio.TaskGroup() as tg:
            tg.create_task(sleeps())
            tg.create_task(fails())
    except* OSError as group:
        print("errors:", len(group.exceptions))


asyncio.run(main())
