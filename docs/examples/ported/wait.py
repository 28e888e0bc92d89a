# SPDX-License-Identifier: MIT
import asyncio


async def runner(number, delay):
    await asyncio.sleep(delay)
    return number


async def main():
    tasks = [asyncio.create_task(runner(1, 3600)), asyncio.create_task(runner(2, 0)), asyncio.create_task(runner(3, 3600))]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    print("done:", *(task.result() for task in done), "pending:", len(pending))
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)

    finished = asyncio.Event()

    async def last():
        await finished.wait()
        return "last"

    async def first():
        finished.set()
        return "first"

    for next_one in asyncio.as_completed([last(), first()]):
        print(await next_one)


asyncio.run(main())
