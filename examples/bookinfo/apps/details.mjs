import { instance, serve } from "./service.mjs";

serve(() => ({
  id: 0,
  author: "William Shakespeare",
  year: 1595,
  type: "paperback",
  pages: 200,
  publisher: "PublisherA",
  language: "English",
  instance,
}));
