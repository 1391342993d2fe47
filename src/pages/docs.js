// The page comes without it, and a telephone would show it as wide as a desk.
document.head.insertAdjacentHTML('beforeend', '<meta name="viewport" content="width=device-width, initial-scale=1">')
