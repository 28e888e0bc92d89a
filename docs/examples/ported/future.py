# SPDX-License-Identifier: MIT
import asyncio


async def set_after(fut, delay, value):
    await asyncio.sleep(delay)
    fut.set_result(value)


async def main():
    loop = asyncio.get_running_loop()
    fut = loop.create_future()
    seen = []
    fut.add_done_callback(lambda f: seen.append(f.result()))
    task = asyncio.create_task(set_after(fut, 0.001, "... world"))

    print("hello ...")
    print(await fut)
    await task
    await asyncio.sleep(0)
    print("called back:", *seen)
    try:
        fut.set_result("again")
    except asyncio.InvalidStateError:
        print("only once")


asyncio.run(main())
