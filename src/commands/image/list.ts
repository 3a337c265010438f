import { BaseCommand } from "../../cli/base-command.ts";
import { imageTable } from "../../cli/image-tables.ts";

export default class ImageList extends BaseCommand {
  static override summary = "List images";
  static override description =
    "Images that were built here, and those that releases use; docker images lists all. Exits 9 when no engine answers.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --json",
  ];

  async run(): Promise<void> {
    const { flags } = await this.parse(ImageList);
    const { client } = this.connect(flags);
    const images = await client.listImages();
    this.answer(images, () => imageTable(images));
  }
}
