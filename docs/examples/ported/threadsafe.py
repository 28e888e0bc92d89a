# SPDX-License-Identifier: MIT
import asyncio
import threading


def measure(loop, future):
    loop.call_soon_threadsafe(future.set_result, 21.5)


async def main():
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    thread = threading.Thread(target=measure, args=(loop, future))
    thread.start()
    print("measured:", await future)
    thread.join()


asyncio.run(main())
