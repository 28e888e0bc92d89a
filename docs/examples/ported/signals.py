# SPDX-License-Identifier: MIT
import asyncio
import os
import signal


async def main():
    loop = asyncio.get_running_loop()
    received = asyncio.Queue()
    for number in (signal.SIGHUP, signal.SIGTERM):
        loop.add_signal_handler(number, received.put_nowait, number)

    os.kill(os.getpid(), signal.SIGHUP)
    print("got", (await received.get()).name + ": reload")
    os.kill(os.getpid(), signal.SIGTERM)
    print("got", (await received.get()).name + ": exit")


asyncio.run(main())
