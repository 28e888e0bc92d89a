# SPDX-License-Identifier: MIT
import asyncio


async def worker(queue, done):
    while True:
        number = await queue.get()
        await asyncio.sleep(0)
        done[number] = number * number
        queue.task_done()


async def main():
    queue = asyncio.Queue(maxsize=2)
    done = {}
    workers = [asyncio.create_task(worker(queue, done)) for _ in range(3)]

    for number in range(1, 7):
        await queue.put(number)
    await queue.join()
    for task in workers:
        task.cancel()
    ends = await asyncio.gather(*workers, return_exceptions=True)

    for number in sorted(done):
        print(f"{number} squared is {done[number]}")
    print("workers cancelled:", sum(isinstance(end, asyncio.CancelledError) for end in ends))


asyncio.run(main())
