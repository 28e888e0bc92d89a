# SPDX-License-Identifier: MIT
import asyncio

background_tasks = set()


async def some_coro(param):
    await asyncio.sleep(0)
    return param * 10


def finished(task):
    print(task.get_name(), "finished:", task.result())
    background_tasks.discard(task)


async def main():
    for i in range(3):
        task = asyncio.create_task(some_coro(i), name=f"coro-{i}")
        background_tasks.add(task)  # the loop itself would let the task vanish
        task.add_done_callback(finished)
    while background_tasks:
        await asyncio.sleep(0)
    print("others left:", len(asyncio.all_tasks()) - 1)


asyncio.run(main())
