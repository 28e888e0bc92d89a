# SPDX-License-Identifier: MIT
import asyncio


async def handle_echo(reader, writer):
    message = (await reader.readline()).decode()
    print("Received", repr(message))
    writer.write(message.encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def main():
    server = await asyncio.start_server(handle_echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"Hello World!\n")
        await writer.drain()
        data = await asyncio.wait_for(reader.readexactly(13), timeout=60)
        print("Echoed", repr(data.decode()))
        try:
            await reader.readexactly(1)
        except asyncio.IncompleteReadError:
            print("Closed")
        writer.close()
        await writer.wait_closed()


asyncio.run(main())
