# SPDX-License-Identifier: MIT
import asyncio

active = most = 0


async def download(number, limit):
    global active, most
    async with limit:
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.001)
        active -= 1
    return number * 100


async def main():
    limit = asyncio.Semaphore(3)
    sizes = await asyncio.gather(*(download(number, limit) for number in range(10)))
    print("bytes:", sum(sizes))
    print("at once:", most)


asyncio.run(main())
