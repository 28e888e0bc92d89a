# SPDX-License-Identifier: MIT
import asyncio


async def cancel_me():
    print("cancel_me(): before sleep")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print("cancel_me(): cancel sleep")
        raise
    finally:
        print("cancel_me(): after sleep")


async def stubborn():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        asyncio.current_task().uncancel()
    return 7


async def main():
    task = asyncio.create_task(cancel_me())
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print("main(): cancel_me is cancelled now")

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    task.cancel()
    print("cancelling:", task.cancelling())
    print("result:", await task, "cancelling:", task.cancelling())


asyncio.run(main())
